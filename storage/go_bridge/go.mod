module bridge

go 1.19

require (
	github.com/dgraph-io/badger/v2 v2.2007.2
	github.com/golang/protobuf v1.3.5 // indirect
	go.etcd.io/bbolt v1.3.6
)
