package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

var bucketName = []byte("images")

type boltStore struct{ db *bolt.DB }

func openBolt(path string, size int) (store, error) {
	options := &bolt.Options{PageSize: 32 << 10, InitialMmapSize: size, Timeout: time.Nanosecond, // nobody is waited for
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType}
	if size < 0 {
		options.ReadOnly = true
		options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			return os.OpenFile(name, flag&^os.O_CREATE, mode)
		}
	}
	db, err := bolt.Open(path, 0o666, options)
	if err != nil {
		return nil, err
	}
	opened := &boltStore{db}
	good := size >= 0
	defer func() { // after a panic, too
		if !good {
			db.Close()
		}
	}()
	if !good {
		err = opened.check()
		good = err == nil
	}
	return opened, err
}

// check refuses what Bolt would believe: a file that was cut short, and a tree that leads out of it, or round in circles.
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
		bucket := tx.Bucket(bucketName)
		if bucket == nil {
			return fmt.Errorf("there is no bucket %s", bucketName)
		}
		if bucket.Root() == 0 { // few records lie in the page of their parent
			return nil
		}
		return checkTree(file, uint64(bucket.Root()), s.db.Info().PageSize, uint64(tx.Size()))
	})
}

// checkTree reads all pages that have children, level by level: 16 bytes of header (number, flags, how many children),
// then 16 for each child. The layout: https://github.com/etcd-io/bbolt/blob/v1.3.6/page.go
func checkTree(file *os.File, root uint64, pageSize int, size uint64) error {
	const branch, leaf = 1, 2
	seen := make([]bool, size/uint64(pageSize))
	header := make([]byte, 16)
	for pending := []uint64{root}; len(pending) > 0; pending = pending[1:] {
		start := int64(pending[0]) * int64(pageSize)
		if _, err := file.ReadAt(header, start); err != nil {
			return err
		}
		flags, count := binary.LittleEndian.Uint16(header[8:]), binary.LittleEndian.Uint16(header[10:])
		if flags == leaf { // so are all others of its level
			return nil
		}
		children := make([]byte, 16*int(count))
		if _, err := file.ReadAt(children, start+16); err != nil {
			return err
		}
		if flags != branch || count == 0 {
			return fmt.Errorf("page %d has no children", pending[0])
		}
		for ; len(children) > 0; children = children[16:] {
			child := binary.LittleEndian.Uint64(children[8:])
			if child >= uint64(len(seen)) || seen[child] {
				return fmt.Errorf("page %d leads to page %d", pending[0], child)
			}
			seen[child] = true
			pending = append(pending, child)
		}
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
		key, value := cursor.Seek(records.key(0))
		for i := 0; i < records.count(); i++ {
			if !bytes.Equal(key, records.key(i)) {
				return records.missing(i)
			}
			if err := records.take(i, value); err != nil {
				return err
			}
			key, value = cursor.Next()
		}
		return nil
	})
}

func (s *boltStore) close() error { return s.db.Close() }
