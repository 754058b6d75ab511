//! `DATA/fetch.lock.json`: what every accepted file was, so that it is the same ever after.
//!
//! Where no checksum is published the first download is trusted and pinned here; a later one must be equal to it.

use super::{FetchError, io_error};
use fs4::FileExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One accepted file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Where it came from: an address, or a path given to `--file`.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, as hex.
    pub sha256: String,
    /// The day and time (UTC) of its acceptance.
    pub date: String,
    /// Whether the user accepted it against the published checksum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// Whether it was the first download of a file that nobody publishes a checksum of: taken on trust.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("fetch.lock.json")
}

/// Every pin, by target; none where nothing was fetched.
pub fn read(folder: &Path) -> Result<BTreeMap<String, Pin>, FetchError> {
    let path = path(folder);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error(&path, &error)),
    };
    serde_json::from_slice(&text).map_err(|error| {
        let help = "mend it, or move it away: what was pinned in it is then trusted anew";
        FetchError::refused(format!("{}: {error}", path.display()), help)
    })
}

/// Adds or replaces one pin. Two processes may do so at once.
pub(super) fn write(folder: &Path, target: &str, pin: Pin) -> Result<(), FetchError> {
    let guard_path = folder.join(".fetch.lock");
    let guard = File::create(&guard_path).map_err(|error| io_error(&guard_path, &error))?;
    FileExt::lock(&guard).map_err(|error| io_error(&guard_path, &error))?;
    let mut pins = read(folder)?;
    pins.insert(target.into(), pin);
    let (path, part) = (path(folder), folder.join("fetch.lock.json.part"));
    let mut text = serde_json::to_vec_pretty(&pins).expect("plain data");
    text.push(b'\n');
    let written = File::create(&part).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&part, &path)).map_err(|error| io_error(&path, &error))
}

/// `2026-11-22T08:36:47Z`.
pub(super) fn now() -> String {
    date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as a date of the Gregorian calendar, whose cycle is 146,097 days in 400 years from March on.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400); // days since 0000-03-01
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let (dom, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = 400 * cycle + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{dom:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(date(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn pins_are_kept_beside_each_other_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let pin = |sha256: &str| Pin {
            url: "u".into(),
            bytes: 1,
            sha256: sha256.into(),
            date: now(),
            accepted: false,
            trusted: true,
        };
        assert!(read(folder.path()).unwrap().is_empty());
        std::thread::scope(|scope| {
            for i in 0..8 {
                let (folder, pin) = (folder.path(), pin("a"));
                scope.spawn(move || write(folder, &format!("file {i}"), pin).unwrap());
            }
        });
        write(folder.path(), "file 0", pin("b")).unwrap();
        let pins = read(folder.path()).unwrap();
        assert_eq!(pins.len(), 8);
        assert_eq!((&*pins["file 0"].sha256, &*pins["file 7"].sha256), ("b", "a"));
    }

    #[test]
    fn a_damaged_list_of_pins_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "{").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("fetch.lock.json: EOF while parsing"));
    }
}
