package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sort"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

var bucketName = []byte("images")

// A boltStore that is read knows the leaves of the tree: Bolt trusts every page, and would follow a damaged one for ever.
// Pages: https://github.com/etcd-io/bbolt/blob/v1.3.6/page.go
type boltStore struct {
	db     *bolt.DB
	file   []byte // mapped
	leaves []leaf
}

type leaf struct {
	first, page uint64 // its first key
	checked     uint32
}

const (
	headerSize           = 16 // bytes: number of the page, flags, number of elements, number of overflow pages; also an element
	branchFlag, leafFlag = 1, 2
	maxDepth             = 32
)

func openBolt(path string, size int) (store, error) {
	options := &bolt.Options{PageSize: 32 << 10, InitialMmapSize: size, Timeout: time.Nanosecond, // never wait for a lock
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType}
	if size < 0 {
		options.ReadOnly = true
		options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			return os.OpenFile(name, flag&^os.O_CREATE, mode)
		}
	}
	db, err := bolt.Open(path, 0o666, options)
	if err == bolt.ErrTimeout {
		return nil, fmt.Errorf("another program has locked it: %w", syscall.EAGAIN)
	}
	if err != nil {
		return nil, err
	}
	opened := &boltStore{db: db}
	good := size >= 0
	defer func() { // after a panic, too
		if !good {
			opened.close()
		}
	}()
	if !good {
		err = opened.check()
		good = err == nil
	}
	return opened, err
}

// check refuses a file that was cut short, and inconsistent pages above the leaves.
func (s *boltStore) check() error {
	file, err := os.Open(s.db.Path())
	if err != nil {
		return err
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		return err
	}
	return s.db.View(func(tx *bolt.Tx) error {
		if status.Size() < tx.Size() {
			return fmt.Errorf("%d of %d bytes are left: the file was cut short", status.Size(), tx.Size())
		}
		if s.file, err = syscall.Mmap(int(file.Fd()), 0, int(tx.Size()), syscall.PROT_READ, syscall.MAP_SHARED); err != nil {
			return err
		}
		if _, err = s.readPage(uint64(tx.Cursor().Bucket().Root()), leafFlag); err != nil {
			return err
		}
		bucket := tx.Bucket(bucketName)
		if bucket == nil {
			return fmt.Errorf("there is no bucket %s", bucketName)
		}
		if bucket.Root() == 0 { // a few records are in the page of their parent
			return nil
		}
		return s.findLeaves(uint64(bucket.Root()))
	})
}

// findLeaves goes down the tree, level by level. A page that is not a branch counts as a leaf until it is read.
func (s *boltStore) findLeaves(root uint64) error {
	s.leaves = []leaf{{page: root}}
	for depth := 0; depth < maxDepth && len(s.leaves) <= len(s.file)/s.db.Info().PageSize; depth++ {
		if _, err := s.readPage(s.leaves[0].page, branchFlag); err != nil {
			return nil
		}
		var below []leaf
		for _, branch := range s.leaves {
			children, err := s.findChildren(branch)
			if err != nil {
				return err
			}
			below = append(below, children...)
		}
		s.leaves = below
	}
	return fmt.Errorf("the pages below page %d form a cycle", root)
}

func (s *boltStore) findChildren(branch leaf) ([]leaf, error) {
	page, err := s.readPage(branch.page, branchFlag)
	if err != nil {
		return nil, err
	}
	children := make([]leaf, binary.LittleEndian.Uint16(page[10:]))
	first := branch.first
	for i := range children {
		element := page[headerSize*(i+1):] // offset of the key from here, its length, number of the page
		child := leaf{page: binary.LittleEndian.Uint64(element[8:])}
		child.first = binary.BigEndian.Uint64(element[binary.LittleEndian.Uint32(element):])
		if binary.LittleEndian.Uint32(element[4:]) != keySize || child.first < first || i == 0 && first > 0 && child.first > first {
			return nil, fmt.Errorf("page %d has keys that do not fit", branch.page)
		}
		children[i], first = child, child.first+1
	}
	return children, nil
}

// readPage returns a page of the tree if its header makes sense.
func (s *boltStore) readPage(number uint64, flags uint16) ([]byte, error) {
	size := uint64(s.db.Info().PageSize)
	if number < uint64(len(s.file))/size {
		page := s.file[number*size:]
		length := size * (1 + uint64(binary.LittleEndian.Uint32(page[12:])))
		if binary.LittleEndian.Uint64(page) == number && binary.LittleEndian.Uint16(page[8:]) == flags &&
			binary.LittleEndian.Uint16(page[10:]) > 0 && length <= uint64(len(page)) {
			return page[:length], nil
		}
	}
	return nil, fmt.Errorf("page %d is damaged", number)
}

// verify checks the leaf of a key when it is read for the first time.
func (s *boltStore) verify(key []byte) error {
	if len(s.leaves) == 0 {
		return nil
	}
	number := binary.BigEndian.Uint64(key)
	behind := sort.Search(len(s.leaves), func(i int) bool { return s.leaves[i].first > number })
	if behind == 0 {
		behind = 1
	}
	found := &s.leaves[behind-1]
	if atomic.LoadUint32(&found.checked) == 0 {
		if _, err := s.readPage(found.page, leafFlag); err != nil {
			return err
		}
		atomic.StoreUint32(&found.checked, 1)
	}
	return nil
}

func (s *boltStore) put(records *batch) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(bucketName)
		if err != nil {
			return err
		}
		bucket.FillPercent = 1
		for i := 0; i < records.count(); i++ {
			if err := bucket.Put(records.key(i), records.value(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *boltStore) view(work func(bucket *bolt.Bucket) error) error {
	return s.db.View(func(tx *bolt.Tx) error { return work(tx.Bucket(bucketName)) })
}

func (s *boltStore) get(records *batch) error {
	return s.view(func(bucket *bolt.Bucket) error {
		for i := 0; i < records.count(); i++ {
			if err := s.verify(records.key(i)); err != nil {
				return err
			}
			value := bucket.Get(records.key(i))
			if value == nil {
				return records.missing(i)
			}
			if err := records.take(i, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *boltStore) scan(records *batch) error {
	return s.view(func(bucket *bolt.Bucket) error {
		cursor := bucket.Cursor()
		for i := 0; i < records.count(); i++ {
			if err := s.verify(records.key(i)); err != nil {
				return err
			}
			move := cursor.Next
			if i == 0 {
				move = func() ([]byte, []byte) { return cursor.Seek(records.key(0)) }
			}
			key, value := move()
			if !bytes.Equal(key, records.key(i)) {
				return records.missing(i)
			}
			if err := records.take(i, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *boltStore) close() error {
	if s.file != nil {
		_ = syscall.Munmap(s.file)
	}
	return s.db.Close()
}
