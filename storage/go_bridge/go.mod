// With this file, Go finds Debian's badger in GOPATH mode although the import path ends in /v2.
module bridge

go 1.19
