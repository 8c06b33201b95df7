# The functions of nixpkgs' lib that are needed, with its names and meaning.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elem
    filter
    foldl'
    head
    isList
    listToAttrs
    replaceStrings
    trace
    ;
in
rec {
  inherit concatStringsSep head;
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalString = condition: text: if condition then text else "";
  warnIf = condition: message: if condition then trace "warning: ${message}" else (value: value);
  throwIf = condition: message: if condition then throw message else (value: value);
  traceIf = condition: message: value: if condition then trace message value else value;
  assertMsg = condition: message: condition || throw message;
  flatten = value: if isList value then builtins.concatLists (map flatten value) else [ value ];
  functionArgs = function: function.__functionArgs or (builtins.functionArgs function);
  setFunctionArgs = function: arguments: { __functor = _self: function; __functionArgs = arguments; };
  toList = value: if isList value then value else [ value ];
  last = list: builtins.elemAt list (builtins.length list - 1);
  unique = foldl' (found: one: if elem one found then found else found ++ [ one ]) [ ];
  splitString = separator: text: filter builtins.isString (builtins.split (escapeRegex separator) text);
  escapeRegex = replaceStrings [ "." "+" "*" "?" "[" "(" ")" "{" "}" "|" "^" "$" "\\" ] [ "\\." "\\+" "\\*" "\\?" "\\[" "\\(" "\\)" "\\{" "\\}" "\\|" "\\^" "\\$" "\\\\" ];
  toLower =
    let
      characters = text: builtins.genList (n: builtins.substring n 1 text) (builtins.stringLength text);
    in
    replaceStrings (characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (characters "abcdefghijklmnopqrstuvwxyz");
  filterAttrs = keep: set: listToAttrs (map (name: { inherit name; value = set.${name}; }) (filter (name: keep name set.${name}) (attrNames set)));
  mapAttrs' = change: set: listToAttrs (map (name: change name set.${name}) (attrNames set));
  mapAttrsToList = change: set: map (name: change name set.${name}) (attrNames set);
  makeBinPath = paths: concatStringsSep ":" (map (path: "${path}/bin") paths);
  escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  escapeShellArgs = texts: concatStringsSep " " (map escapeShellArg texts);
  makeOverridable =
    function:
    setFunctionArgs (
      arguments:
      let
        made = function arguments;
        changing = change: makeOverridable (given: change (function given)) arguments;
      in
      made
      // {
        override = changed: makeOverridable function (arguments // (if builtins.isFunction changed then changed arguments else changed));
      }
      // optionalAttrs (made ? overrideAttrs) { overrideAttrs = changed: changing (one: one.overrideAttrs changed); }
    ) (functionArgs function);
  licenses.mit.spdxId = "MIT";
  genAttrs = names: value: listToAttrs (map (name: { inherit name; value = value name; }) names);
  optionalAttrs = condition: set: if condition then set else { };
}
