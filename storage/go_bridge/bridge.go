// Bridge lets C read and write the records of two key-value stores written in Go: Badger and Bolt.
//
// Records cross the boundary in batches. A key has 8 bytes. A value is a head and a tail: the pixels or the file of an
// image, and its label, which are in two arrays on the other side. There, stores are numbers and errors are text.
package main

// #include <stdint.h>
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"runtime/debug"
	"sync"
	"unsafe"
)

const keySize = 8

// A store is the interface of both engines. Keys are put in ascending order; scan is get for consecutive keys.
type store interface {
	put(records *batch) error
	get(records *batch) error
	scan(records *batch) error
	close() error
}

var (
	stores  = map[C.int64_t]store{}
	newest  C.int64_t
	guard   sync.Mutex
	engines = map[string]func(path string, size int) (store, error){"badger": openBadger, "bolt": openBolt}
)

// A batch is memory of the caller: keys, and a head and a tail for each. Without heads, only tails are read. Offsets say
// where each head starts, and where the last one ends; without them, all heads have the same size.
type batch struct {
	keys, heads, tails []byte
	offsets            []int64
	head, tail         int // bytes of each
	joined             []byte
}

func newBatch(keys *C.uint8_t, keysSize C.int64_t, heads *C.uint8_t, headsSize C.int64_t,
	tails *C.uint8_t, tailsSize C.int64_t, offsets *C.int64_t) (*batch, error) {
	count := keysSize / keySize
	if count < 1 || keysSize%keySize != 0 || headsSize < 0 || tailsSize < 0 || tailsSize%count != 0 ||
		offsets == nil && headsSize%count != 0 {
		return nil, fmt.Errorf("%d bytes of keys, %d of heads, %d of tails: no batch", keysSize, headsSize, tailsSize)
	}
	made := &batch{
		keys: view(keys, keysSize), heads: view(heads, headsSize), tails: view(tails, tailsSize),
		head: int(headsSize / count), tail: int(tailsSize / count),
	}
	if offsets != nil {
		made.offsets = unsafe.Slice((*int64)(offsets), int(count)+1)
	}
	return made, nil
}

// span returns where a head is.
func (b *batch) span(i int) (start, end int) {
	if b.offsets == nil {
		return i * b.head, (i + 1) * b.head
	}
	return int(b.offsets[i] - b.offsets[0]), int(b.offsets[i+1] - b.offsets[0])
}

func view(memory *C.uint8_t, size C.int64_t) []byte {
	if memory == nil {
		return nil
	}
	return unsafe.Slice((*byte)(memory), int(size))
}

func (b *batch) count() int { return len(b.keys) / keySize }

func (b *batch) key(i int) []byte { return b.keys[i*keySize : (i+1)*keySize] }

// value joins a head and a tail, in memory that stays valid while the batch is in use.
func (b *batch) value(i int) []byte {
	if b.joined == nil {
		b.joined = make([]byte, len(b.heads)+len(b.tails))
	}
	start, end := b.span(i)
	place := start + i*b.tail
	value := b.joined[place : place+end-start+b.tail : place+end-start+b.tail]
	copy(value, b.heads[start:end])
	copy(value[end-start:], b.tails[i*b.tail:(i+1)*b.tail])
	return value
}

func (b *batch) take(i int, value []byte) error {
	start, end := b.span(i)
	if len(value) != end-start+b.tail {
		return fmt.Errorf("record %x has %d bytes, not %d", b.key(i), len(value), end-start+b.tail)
	}
	if b.heads != nil {
		copy(b.heads[start:end], value)
	}
	copy(b.tails[i*b.tail:], value[end-start:])
	return nil
}

func (b *batch) missing(i int) error { return fmt.Errorf("record %x is missing", b.key(i)) }

// bridge_open creates a store that needs at most size bytes of addresses; if size is negative, it opens one to read.
//
//export bridge_open
func bridge_open(engine, path *C.char, size C.int64_t, handle *C.int64_t) *C.char {
	return report(func() error {
		open, found := engines[C.GoString(engine)]
		if !found {
			return fmt.Errorf("there is no engine %q", C.GoString(engine))
		}
		opened, err := open(C.GoString(path), int(size))
		if err != nil {
			return err
		}
		guard.Lock()
		defer guard.Unlock()
		newest++
		stores[newest] = opened
		*handle = newest
		return nil
	})
}

//export bridge_close
func bridge_close(handle C.int64_t) *C.char {
	return report(func() error {
		opened, err := find(handle)
		if err != nil {
			return err
		}
		guard.Lock()
		delete(stores, handle)
		guard.Unlock()
		return opened.close()
	})
}

//export bridge_put
func bridge_put(handle C.int64_t, keys *C.uint8_t, keysSize C.int64_t, heads *C.uint8_t, headsSize C.int64_t,
	tails *C.uint8_t, tailsSize C.int64_t, offsets *C.int64_t) *C.char {
	return use(handle, keys, keysSize, heads, headsSize, tails, tailsSize, offsets, store.put)
}

//export bridge_get
func bridge_get(handle C.int64_t, keys *C.uint8_t, keysSize C.int64_t, heads *C.uint8_t, headsSize C.int64_t,
	tails *C.uint8_t, tailsSize C.int64_t, offsets *C.int64_t) *C.char {
	return use(handle, keys, keysSize, heads, headsSize, tails, tailsSize, offsets, store.get)
}

//export bridge_scan
func bridge_scan(handle C.int64_t, keys *C.uint8_t, keysSize C.int64_t, heads *C.uint8_t, headsSize C.int64_t,
	tails *C.uint8_t, tailsSize C.int64_t, offsets *C.int64_t) *C.char {
	return use(handle, keys, keysSize, heads, headsSize, tails, tailsSize, offsets, store.scan)
}

//export bridge_free
func bridge_free(text *C.char) { C.free(unsafe.Pointer(text)) }

func use(handle C.int64_t, keys *C.uint8_t, keysSize C.int64_t, heads *C.uint8_t, headsSize C.int64_t,
	tails *C.uint8_t, tailsSize C.int64_t, offsets *C.int64_t, work func(store, *batch) error) *C.char {
	return report(func() error {
		opened, err := find(handle)
		if err != nil {
			return err
		}
		records, err := newBatch(keys, keysSize, heads, headsSize, tails, tailsSize, offsets)
		if err != nil {
			return err
		}
		return work(opened, records)
	})
}

func find(handle C.int64_t) (store, error) {
	guard.Lock()
	defer guard.Unlock()
	opened, found := stores[handle]
	if !found {
		return nil, fmt.Errorf("no open store has the number %d", handle)
	}
	return opened, nil
}

// report turns an error, or a panic, into text. Both engines panic on data that makes no sense, and touching a page
// beyond the end of a mapped file is a fault, which would end the process.
func report(work func() error) (text *C.char) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if problem := recover(); problem != nil {
			text = C.CString(fmt.Sprint("panic: ", problem))
		}
	}()
	if err := work(); err != nil {
		return C.CString(err.Error())
	}
	return nil
}

func main() {}
