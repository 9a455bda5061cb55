package main

import (
	"bytes"
	"errors"
	"log"
	"sync/atomic"

	badger "github.com/dgraph-io/badger/v2"
	"github.com/dgraph-io/badger/v2/pb"
)

type badgerStore struct {
	db     *badger.DB
	writer *badger.StreamWriter
	inside int32 // calls that have not returned: after a panic, Badger may hold a lock for ever
}

func openBadger(path string, size int) (store, error) {
	table := int64(8 << 20) // bytes of keys, which are reserved in memory
	if size < 0 {
		table = 1 << 20
	}
	options := badger.DefaultOptions(path).WithLogger(silence{}).WithReadOnly(size < 0).
		WithBypassLockGuard(size < 0).                       // a child that was forked meanwhile keeps a writer's lock
		WithValueThreshold(0).WithVerifyValueChecksum(true). // values are in the value log, with a checksum each
		WithMaxTableSize(table).WithBloomFalsePositive(1).   // one bit per key: every key that is asked for exists
		WithNumCompactors(0).WithCompactL0OnClose(false).    // tables are written in order
		WithSyncWrites(false).WithDetectConflicts(false)
	db, err := badger.Open(options)
	if err != nil {
		return nil, err
	}
	opened := &badgerStore{db: db}
	if size >= 0 {
		opened.writer = db.NewStreamWriter()
		if err = opened.writer.Prepare(); err != nil {
			db.Close()
		}
	}
	return opened, err
}

func (s *badgerStore) put(records *batch) error {
	if s.writer == nil {
		return errors.New("the store is open read-only")
	}
	list := &pb.KVList{Kv: make([]*pb.KV, records.count())}
	for i := range list.Kv {
		list.Kv[i] = &pb.KV{Key: records.key(i), Value: records.value(i), Version: 1}
	}
	return s.writer.Write(list)
}

func (s *badgerStore) view(work func(txn *badger.Txn) error) error {
	atomic.AddInt32(&s.inside, 1)
	err := s.db.View(work)
	atomic.AddInt32(&s.inside, -1)
	return err
}

func (s *badgerStore) get(records *batch) error {
	return s.view(func(txn *badger.Txn) error {
		for i := 0; i < records.count(); i++ {
			item, err := txn.Get(records.key(i))
			if err == badger.ErrKeyNotFound {
				return records.missing(i)
			}
			if err != nil {
				return err
			}
			if err := item.Value(func(value []byte) error { return records.take(i, value) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *badgerStore) scan(records *batch) error {
	return s.view(func(txn *badger.Txn) error {
		cursor := txn.NewIterator(badger.IteratorOptions{})
		defer cursor.Close()
		cursor.Seek(records.key(0))
		for i := 0; i < records.count(); i++ {
			if !cursor.Valid() || !bytes.Equal(cursor.Item().Key(), records.key(i)) {
				return records.missing(i)
			}
			if err := cursor.Item().Value(func(value []byte) error { return records.take(i, value) }); err != nil {
				return err
			}
			cursor.Next()
		}
		return nil
	})
}

func (s *badgerStore) close() error {
	if atomic.LoadInt32(&s.inside) > 0 {
		return nil
	}
	var err error
	if s.writer != nil {
		err = s.writer.Flush()
	}
	if closing := s.db.Close(); err == nil {
		err = closing
	}
	return err
}

type silence struct{}

func (silence) Errorf(string, ...interface{})   {}
func (silence) Warningf(string, ...interface{}) {}
func (silence) Infof(string, ...interface{})    {}
func (silence) Debugf(string, ...interface{})   {}

// Badger ends the process through the standard logger if an assertion fails; a panic becomes an error instead.
type alarm struct{}

func (alarm) Write(text []byte) (int, error) { panic(string(text)) }

func init() { log.SetOutput(alarm{}) }
