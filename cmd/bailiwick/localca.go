package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// localCA is the certificate authority of `bailiwick dev --tls`: one for each zone on
// each machine, made at the first use and kept, so that a browser need be told of it
// once. Its names are constrained to the zone and loopback (RFC 5280 section
// 4.2.1.10): who steals its key can impersonate nothing else.
type localCA struct {
	cert *x509.Certificate
	key  crypto.Signer
	path string // of the certificate alone, for browsers
}

const (
	localCALife = 10 * 365 * 24 * time.Hour
	// Some clients take no more than 825 days of any certificate.
	localLeafLife = 365 * 24 * time.Hour
)

// openLocalCA reads the CA of a zone from dir, or makes it.
func openLocalCA(dir, zone string, now time.Time) (*localCA, error) {
	if dir == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("local CA: %w: name a folder with --tls-dir", err)
		}
		dir = filepath.Join(config, "bailiwick")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local CA: %w: name another folder with --tls-dir", err)
	}
	secret := filepath.Join(dir, zone+"-ca-key.pem")
	if _, err := os.Stat(secret); errors.Is(err, fs.ErrNotExist) {
		if err := makeLocalCA(dir, secret, zone, now); err != nil {
			return nil, fmt.Errorf("local CA: %w", err)
		}
	}
	ca, err := readLocalCA(secret, now)
	if err != nil {
		return nil, fmt.Errorf("local CA: %s: %w", secret, err)
	}
	ca.path = filepath.Join(dir, zone+"-ca.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	if old, err := os.ReadFile(ca.path); err != nil || string(old) != string(public) {
		temp, err := written(dir, public)
		if err == nil {
			err = os.Rename(temp, ca.path)
		}
		if err != nil {
			return nil, fmt.Errorf("local CA: %w", err)
		}
	}
	return ca, nil
}

// makeLocalCA writes key and certificate as one file, which comes to be whole or not
// at all: of two that start at the same moment one makes it, and both use it.
func makeLocalCA(dir, path, zone string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	cert := template(now, localCALife)
	cert.Subject = pkix.Name{CommonName: "Bailiwick dev CA for " + zone, OrganizationalUnit: []string{host}}
	cert.IsCA, cert.MaxPathLenZero, cert.KeyUsage = true, true, x509.KeyUsageCertSign
	cert.PermittedDNSDomainsCritical = true
	cert.PermittedDNSDomains = []string{zone, "localhost"}
	cert.PermittedIPRanges = []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	temp, err := written(dir, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...))
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// written is a new file in dir, which its owner alone may read.
func written(dir string, b []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, "ca-*.tmp")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name()) // a part of a key
	}
	return f.Name(), err
}

func readLocalCA(path string, now time.Time) (*localCA, error) {
	const anew = "remove the file to make a new CA, and import that"
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read this key (mode %04o): %s", st.Mode().Perm(), anew)
	}
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, anew)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("no CA: " + anew)
	}
	if now.Add(localLeafLife).After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("the CA ends %s: %s", pair.Leaf.NotAfter.Format(time.DateOnly), anew)
	}
	return &localCA{cert: pair.Leaf, key: key}, nil
}

func template(now time.Time, life time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life), BasicConstraintsValid: true}
}

// issue makes a server's certificate with a key of its own, in memory only.
func (ca *localCA) issue(now time.Time, addr netip.Addr, names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := template(now, localLeafLife)
	cert.DNSNames, cert.IPAddresses = names, []net.IP{addr.AsSlice()}
	cert.Subject = pkix.Name{CommonName: names[0]}
	cert.KeyUsage, cert.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, key.Public(), ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}, nil
}

// config is a server's TLS with one certificate.
func (ca *localCA) config(now time.Time, addr netip.Addr, names ...string) (*tls.Config, error) {
	c, err := ca.issue(now, addr, names...)
	if err != nil {
		return nil, fmt.Errorf("local CA: %s: %w", names[0], err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c}}, nil
}

// pool trusts this CA alone.
func (ca *localCA) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}
