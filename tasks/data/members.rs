//! The members of a tar as they pass by, before anything is made of them.
//!
//! ```text
//! header, 512 bytes    content, filled up to 512    header    content    …    two blocks of zeros
//! ```
//! Source   POSIX.1-1988 (ustar), POSIX.1-2001 (pax: `x`, `g`), the GNU tar manual, "Standard Archive Format" (`L`, `K`, `S`)
//!
//! The library that reads archives holds a member that names the next one whole, and makes zeros of the holes of a sparse file:
//! a few bytes are then gigabytes in memory or on the disk. What could do so is refused here, by name.

use std::io::{self, Read};
use tar::{EntryType, Header};

/// Bytes of a header, and what contents are filled up to.
const BLOCK: u64 = 512;

/// Longest name or list of attributes, bytes: the longest path that a system takes has 4 KiB.
const NAMES: u64 = 1 << 20;

/// A tar, read through.
pub(crate) struct Members<R> {
    inner: R,
    /// The header that is being read.
    header: Vec<u8>,
    /// The attributes that are being read, and how many bytes of them are still to come.
    attributes: (Vec<u8>, u64),
    /// Bytes to the next header.
    left: u64,
    over: bool,
}

fn refused(header: &Header, what: &str) -> io::Error {
    let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    io::Error::new(io::ErrorKind::Unsupported, format!("`{name}` {what}"))
}

impl<R: Read> Members<R> {
    /// The stream begins with a header.
    pub fn new(inner: R) -> Self {
        Self { inner, header: Vec::new(), attributes: (Vec::new(), 0), left: 0, over: false }
    }

    /// What follows a header that was read to its end.
    fn member(&mut self) -> io::Result<()> {
        let header = Header::from_byte_slice(&self.header).clone();
        self.header.clear();
        // A block of zeros ends the archive, and what is no header is refused by the library.
        let Some(size) = header.entry_size().ok().filter(|_| header.as_bytes().iter().any(|&byte| byte != 0)) else {
            self.over = true;
            return Ok(());
        };
        let kind = header.entry_type();
        let attributes = matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader);
        if kind == EntryType::GNUSparse {
            return Err(refused(&header, "is a sparse file; pack it again without holes"));
        }
        if (attributes || matches!(kind, EntryType::GNULongName | EntryType::GNULongLink)) && size > NAMES {
            return Err(refused(
                &header,
                &format!("names another file with {size} bytes; no name has more than 1 MiB"),
            ));
        }
        self.attributes.1 = if attributes { size } else { 0 };
        self.left = size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Attributes that were read to their end: a size among them would lead to another next header.
    fn attributed(&mut self) -> io::Result<()> {
        let attributes = std::mem::take(&mut self.attributes.0);
        match attributes.windows(6).any(|six| six == b" size=") {
            false => Ok(()),
            true => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a file in it has its size among its attributes (more than 8 GiB); unpack it and name the folder",
            )),
        }
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(into)?;
        let mut rest = &into[..bytes];
        while !self.over && !rest.is_empty() {
            if self.left == 0 {
                let (head, after) = rest.split_at(rest.len().min(BLOCK as usize - self.header.len()));
                self.header.extend_from_slice(head);
                rest = after;
                if self.header.len() as u64 == BLOCK {
                    self.member()?;
                }
                continue;
            }
            let (content, after) = rest.split_at(self.left.min(rest.len() as u64) as usize);
            self.left -= content.len() as u64;
            rest = after;
            if self.attributes.1 > 0 {
                let own = self.attributes.1.min(content.len() as u64);
                self.attributes.0.extend_from_slice(&content[..own as usize]);
                self.attributes.1 -= own;
                if self.attributes.1 == 0 {
                    self.attributed()?;
                }
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tar of one member of this kind and then of one plain file, `a.txt`; of the content only what is given is there.
    pub(crate) fn with_member(kind: EntryType, size: u64, content: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_path("set/odd").unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        tar.append(&header, content).unwrap();
        let mut file = Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        tar.append_data(&mut file, "set/a.txt", &b"a"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    /// A sparse file of 2^40 zeros, which has no bytes of its own.
    pub(crate) fn sparse() -> Vec<u8> {
        let mut bytes = with_member(EntryType::GNUSparse, 0, b"");
        let mut header = Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&bytes[..512]);
        let gnu = header.as_gnu_mut().unwrap();
        // Octal digits do for 2^36 at most; above it a number is written in base 256.
        let huge = [&[0x80, 0, 0, 0][..], &(1_u64 << 40).to_be_bytes()].concat();
        gnu.sparse[0].offset.copy_from_slice(&huge);
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        gnu.realsize.copy_from_slice(&huge);
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        bytes
    }

    /// Read a few bytes at a time.
    fn read(bytes: &[u8], at_once: usize) -> io::Result<Vec<u8>> {
        let (mut members, mut all, mut buffer) = (Members::new(bytes), Vec::new(), vec![0; at_once]);
        loop {
            match members.read(&mut buffer)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }

    #[test]
    fn a_tar_passes_unchanged_and_what_would_grow_is_refused_by_name() {
        let long = format!("set/{}/a.txt\0", "long ".repeat(60));
        let plain = with_member(EntryType::Regular, 700, &[7; 700]);
        let pax = with_member(EntryType::XHeader, 19, b"19 path=set/b.txt\n\n");
        for at_once in [1, 7, 512, 513, 4096] {
            for bytes in [&plain, &pax, &with_member(EntryType::GNULongName, long.len() as u64, long.as_bytes())] {
                assert_eq!(read(bytes, at_once).unwrap(), **bytes);
            }
            let said = |bytes: &[u8]| read(bytes, at_once).unwrap_err().to_string();
            assert_eq!(said(&sparse()), "`set/odd` is a sparse file; pack it again without holes");
            for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
                let error = said(&with_member(kind, (1 << 20) + 1, b""));
                assert_eq!(error, "`set/odd` names another file with 1048577 bytes; no name has more than 1 MiB");
            }
            let sized = with_member(EntryType::XHeader, 18, b"18 size=100000000\n");
            assert!(said(&sized).contains("its size among its attributes"));
        }
    }
}
