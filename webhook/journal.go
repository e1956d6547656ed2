package webhook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bailiwick/consult"
	"bailiwick/exact"
)

// journal is the queue on disk: one line for each event, and one for each that is done with.
// Both are appended, so that what is cut off at any byte costs the last line alone; once it is
// twice what a full queue needs it is written anew. The nil journal keeps nothing.
type journal struct {
	path string
	file *os.File
	size int64
}

// line is one of the file.
type line struct {
	ID      string     `json:"id,omitempty"`
	Type    Type       `json:"type,omitempty"`
	Tenant  string     `json:"tenant,omitempty"`
	Consult consult.ID `json:"consult,omitempty"`
	At      time.Time  `json:"at,omitzero"` // queued
	Body    string     `json:"body,omitempty"`
	Done    string     `json:"done,omitempty"` // the ID of an event
}

// maxLine is longer than any that is written.
const maxLine = 16 << 10

// openJournal opens or makes one, and reads what is in it that is not done: skipped lines
// could not be read.
func openJournal(path string) (j *journal, list []*pending, skipped int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, 0, err
	}
	j = &journal{path: path, file: f}
	if list, skipped, err = replay(f); err == nil {
		// Anew at each start: a line that was cut off would swallow the next.
		err = j.rewrite(list)
	}
	if err != nil {
		f.Close()
		return nil, nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return j, list, skipped, nil
}

func replay(from io.Reader) (list []*pending, skipped int, err error) {
	byID := map[string]*pending{}
	r := bufio.NewReaderSize(from, maxLine)
	for {
		text, err := r.ReadSlice('\n')
		for tooLong := false; errors.Is(err, bufio.ErrBufferFull); text, tooLong = nil, true {
			if _, err = r.ReadSlice('\n'); !tooLong {
				skipped++
			}
		}
		if len(bytes.TrimSpace(text)) > 0 {
			var l line
			switch {
			case err != nil, exact.Known(text, &l) != nil, l.Done == "" && (l.ID == "" || l.Body == ""): // cut off, or not ours
				skipped++
			case l.Done != "":
				if p := byID[l.Done]; p != nil {
					p.done = true
				}
			case byID[l.ID] == nil:
				p := &pending{Event: Event{id: l.ID, kind: l.Type, tenant: l.Tenant, consult: l.Consult, body: []byte(l.Body)}, at: l.At}
				byID[l.ID] = p
				list = append(list, p)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			left := list[:0]
			for _, p := range list {
				if !p.done {
					left = append(left, p)
				}
			}
			return left, skipped, nil
		case err != nil:
			return nil, 0, err
		}
	}
}

func (p *pending) line(b *bytes.Buffer) {
	write(b, line{ID: p.id, Type: p.kind, Tenant: p.tenant, Consult: p.consult, At: p.at.UTC(), Body: string(p.body)})
}

func write(b *bytes.Buffer, l line) {
	if err := json.NewEncoder(b).Encode(l); err != nil {
		panic(err) // a struct of words and a time
	}
}

// append writes events that have come and the IDs of those that are done, and has them on the
// disk when it returns if there are events. What is done without being there is sent again.
func (j *journal) append(events []*pending, done []string) error {
	var b bytes.Buffer
	fresh := false
	for _, p := range events {
		if !p.unstored {
			p.line(&b)
			fresh = true
		}
	}
	for _, id := range done {
		write(&b, line{Done: id})
	}
	n, err := j.file.Write(b.Bytes())
	j.size += int64(n)
	if err == nil && fresh {
		err = j.file.Sync()
	}
	return err
}

// rewrite leaves in the file what is in the list.
func (j *journal) rewrite(list []*pending) error {
	var b bytes.Buffer
	for _, p := range list {
		if !p.unstored {
			p.line(&b)
		}
	}
	temp := j.path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b.Bytes()); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, j.path)
	}
	if err != nil {
		f.Close()
		if gone := os.Remove(temp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	j.file.Close()
	j.file, j.size = f, int64(b.Len())
	if d, err := os.Open(filepath.Dir(j.path)); err == nil { // the name, too
		d.Sync()
		d.Close()
	}
	return nil
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return j.file.Close()
}
