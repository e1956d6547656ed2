package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bailiwick/exact"
)

// File is a Memory whose keys are kept in one JSON file, for `bailiwick dev` and
// single-machine tests. Instances are not kept: a process that still lives
// registers again. One process at a time may have the file open; each write
// rewrites all of it, so it suits thousands of keys and not millions.
//
// A write is on disk before it is acknowledged or seen. What a crash leaves is
// the file before a write or the file after it, whole.
type File struct {
	*Memory
	path string
}

// OpenFile reads the store at path, or begins an empty one when there is none. A
// file that cannot be understood is an error; it is never overwritten.
func OpenFile(path string) (*File, error) {
	m := NewMemory()
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("store file: %w", err)
	default:
		if m.rev, m.entries, err = decode(b); err != nil {
			return nil, fmt.Errorf("store file %s: corrupt: %w: restore it from a copy, or move it away to begin with an empty store", path, err)
		}
	}
	f := &File{Memory: m, path: path}
	m.save = f.write
	return f, nil
}

// Close waits for a write under way and refuses later ones. Reads and watches go
// on; watches end with their contexts.
func (f *File) Close() error {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.save = func(uint64, []Entry) error { return fmt.Errorf("store file %s: closed", f.path) }
	return nil
}

// fileFormat is the version of the document, raised when an older reader would
// misread it.
const fileFormat = 1

type fileDocument struct {
	Format  int         `json:"format"`
	Rev     uint64      `json:"rev"` // of the store's last write, which may have been a delete
	Entries []fileEntry `json:"entries"`
}

type fileEntry struct {
	Key   string `json:"key"`
	Rev   uint64 `json:"rev"`
	Value []byte `json:"value"` // base64
}

func encode(rev uint64, entries []Entry) ([]byte, error) {
	doc := fileDocument{Format: fileFormat, Rev: rev, Entries: make([]fileEntry, len(entries))}
	for i, e := range entries {
		doc.Entries[i] = fileEntry{Key: e.Key, Rev: e.Rev, Value: e.Value}
	}
	b, err := json.Marshal(doc)
	return append(b, '\n'), err
}

// decode refuses everything that encode could not have written.
func decode(b []byte) (rev uint64, entries []Entry, err error) {
	var doc fileDocument
	if err := exact.Read(b, &doc); err != nil {
		return 0, nil, err
	}
	if doc.Format != fileFormat {
		return 0, nil, fmt.Errorf("format %d, want %d", doc.Format, fileFormat)
	}
	entries = make([]Entry, len(doc.Entries))
	for i, e := range doc.Entries {
		if err := errors.Join(CheckKey(e.Key), CheckValue(e.Key, e.Value)); err != nil {
			return 0, nil, err
		}
		if e.Rev == 0 || e.Rev > doc.Rev {
			return 0, nil, fmt.Errorf("key %s: revision %d, the store's is %d", e.Key, e.Rev, doc.Rev)
		}
		if i > 0 && e.Key <= doc.Entries[i-1].Key {
			return 0, nil, fmt.Errorf("key %s: twice or out of order", e.Key)
		}
		entries[i] = Entry{Key: e.Key, Rev: e.Rev, Value: e.Value}
	}
	return doc.Rev, entries, nil
}

// write replaces the file with a document of the entries.
func (f *File) write(rev uint64, entries []Entry) error {
	b, err := encode(rev, entries)
	if err == nil {
		err = WriteFile(f.path, b)
	}
	if err != nil {
		return fmt.Errorf("store file %s: %w", f.path, err)
	}
	return nil
}

// WriteFile replaces the file at path as a whole (temporary file, fsync, rename,
// fsync of the directory): a reader sees the old bytes or the new ones, also after
// a power cut. One writer at a time; only the file's owner may read it.
func WriteFile(path string, b []byte) error {
	temp := path + ".tmp"
	if err := writeSynced(temp, b); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// writeSynced keeps the file to its owner: values may be secrets of an ACME account. One
// that is there keeps its owner and mode when it is opened, or leads elsewhere: it goes.
func writeSynced(path string, b []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
