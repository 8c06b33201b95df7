// What a program in Go does to files, and what it sees of that: Go makes its system calls itself, on many threads.
package main

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func many(group *sync.WaitGroup, number int) {
	defer group.Done()
	folder := fmt.Sprintf("/srv/many/%d", number)
	check(os.Mkdir(folder, 0755))
	for i := 0; i < 40; i++ {
		path := fmt.Sprintf("%s/%d", folder, i)
		check(os.WriteFile(path, []byte("x"), 0644))
		check(os.Chown(path, number+1, i+1))
		info, err := os.Lstat(path)
		check(err)
		status := info.Sys().(*syscall.Stat_t)
		if status.Uid != uint32(number+1) || status.Gid != uint32(i+1) {
			panic(path)
		}
		if i%2 == 1 {
			check(os.Remove(path))
		}
	}
}

func main() {
	check(os.Mkdir("/srv/d", 0755))
	check(os.Chown("/srv/d", 5, 6))
	check(os.Chmod("/srv/d", 0755|os.ModeSetgid))
	check(os.WriteFile("/srv/d/f", []byte("x"), 0644))
	check(os.Lchown("/srv/d/f", 7, 8))
	check(syscall.Mknod("/srv/null", syscall.S_IFCHR|0600, 1<<8|3))
	check(os.Symlink("f", "/srv/d/l"))
	check(os.Lchown("/srv/d/l", 9, 10))
	check(os.Mkdir("/srv/many", 0755))
	var group sync.WaitGroup
	for number := 0; number < 8; number++ {
		group.Add(1)
		go many(&group, number)
	}
	group.Wait()
	check(syscall.Setgroups([]int{1000}))
	check(syscall.Setresgid(1000, 1000, 1000))
	check(syscall.Setresuid(1000, 1000, 1000))
	if os.WriteFile("/srv/no", nil, 0644) == nil {
		panic("written")
	}
}
