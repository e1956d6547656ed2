package signal

import (
	"bytes"
	"encoding/json"
)

// strict decodes frame into a T beside its type tag and refuses any other field.
func strict[T any](frame []byte) (*T, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(frame, &fields); err != nil {
		return nil, err
	}
	delete(fields, "type")
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	v := new(T)
	if err := d.Decode(v); err != nil {
		return nil, err
	}
	return v, nil
}
