//! One file over HTTP: continued where it broke, begun anew where it changed.
//!
//! ```text
//! Range: bytes=HAVE-      the rest is asked for
//! If-Range: VERSION       ETag or Last-Modified of the first answer: 206 continues, 200 means that the file changed
//! ```
//! RFC 9110, sections 13.1.5 and 14. A server that ignores ranges answers 200 and the file begins anew.

use super::{
    Event, FailureKind, FetchError, Options, Part, RemoteFile, Summer, Sums, expected, io_error, read_into, room, size,
    too_long,
};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, Error};

/// `TARGET.part.json`: which version of the file the part is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    url: String,
    bytes: Option<u64>,
    etag: Option<String>,
    modified: Option<String>,
}

impl Version {
    fn of(url: &str, bytes: Option<u64>, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // A weak ETag does not promise equal bytes and may not be used with ranges.
        let etag = text("etag").filter(|etag| !etag.starts_with("W/"));
        Self { url: url.into(), bytes, etag, modified: text("last-modified") }
    }

    fn validator(&self) -> Option<&str> {
        self.etag.as_deref().or(self.modified.as_deref())
    }
}

/// What a try came to.
enum Try {
    /// Whole.
    Done,
    /// The connection broke; another try may bring more.
    Broken(String),
}

/// How long a file may be.
pub(super) struct Limits {
    /// Most bytes that are taken.
    pub most: u64,
    /// The sizes that a right file may have; empty where they are not known.
    pub sizes: Vec<u64>,
}

/// Completes `part` within these limits and gives its sums.
pub(super) fn transfer(
    part: &mut Part,
    file: &RemoteFile,
    url: &str,
    limits: &Limits,
    options: &Options,
    watch: &mut dyn FnMut(Event),
) -> Result<Sums, FetchError> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!("mixarena/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut transfer = Transfer { agent, part, file, url, limits, sums: Summer::new(file.checksum), farthest: 0 };
    transfer.look_back(watch)?;
    let mut fruitless = 0;
    loop {
        let before = transfer.farthest;
        let why = match transfer.attempt(watch)? {
            Try::Done => return Ok(transfer.sums.finish()),
            Try::Broken(why) => why,
        };
        fruitless = if transfer.farthest > before { 0 } else { fruitless + 1 };
        if fruitless >= options.retries.max(1) || options.retries == 0 {
            return Err(transfer.given_up(&why));
        }
        let pause = (options.pause * 2_u32.saturating_pow(fruitless.min(10))).min(Duration::from_secs(60));
        let remark =
            format!("{why}; {} so far, trying again in {:.0} s", size(transfer.part.length), pause.as_secs_f64());
        watch(Event::Remark(&remark));
        std::thread::sleep(pause);
    }
}

struct Transfer<'a> {
    agent: Agent,
    part: &'a mut Part,
    file: &'a RemoteFile,
    url: &'a str,
    limits: &'a Limits,
    sums: Summer,
    farthest: u64, // the most bytes there have ever been
}

impl Transfer<'_> {
    /// Sums what an earlier process left, or throws it away when nothing tells which version of the file it is of.
    fn look_back(&mut self, watch: &mut dyn FnMut(Event)) -> Result<(), FetchError> {
        if self.part.length == 0 {
            return Ok(());
        }
        let known = self.version().is_some_and(|version| {
            version.url == self.url && (version.validator().is_some() || self.file.checksum.is_some())
        });
        if !known {
            watch(Event::Remark("what an earlier download left cannot be continued; starting again"));
            return self.restart();
        }
        let mut file = File::open(&self.part.path).map_err(|error| io_error(&self.part.path, &error))?;
        read_into(&mut file, &mut self.sums).map_err(|error| io_error(&self.part.path, &error))?;
        self.part.length = self.sums.bytes;
        self.farthest = self.part.length;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        self.sums = Summer::new(self.file.checksum);
        self.part.restart()
    }

    fn version(&self) -> Option<Version> {
        serde_json::from_slice(&fs::read(self.part.about()).ok()?).ok()
    }

    /// One request, and as much of its answer as comes.
    fn attempt(&mut self, watch: &mut dyn FnMut(Event)) -> Result<Try, FetchError> {
        let version = self.version().unwrap_or_default();
        let have = self.part.length;
        if have > 0 && version.bytes == Some(have) {
            return Ok(Try::Done); // it was whole when the last process ended
        }
        let mut request = self.agent.get(self.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
            if let Some(validator) = version.validator() {
                request = request.header("If-Range", validator);
            }
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) if self.farthest == 0 && unreachable(&error) => return Err(self.unreachable(&error)),
            Err(error) => return Ok(Try::Broken(error.to_string())),
        };
        match response.status().as_u16() {
            200 => self.whole(response, watch),
            206 if have > 0 => self.rest(response, &version, watch),
            // What is there is no part of what the server has now.
            416 if have > 0 => self.anew("the server has no more than what is there", watch),
            status @ (408 | 429 | 500..600) => Ok(Try::Broken(format!("the server answered {status}"))),
            status => Err(FetchError::new(
                FailureKind::Unreachable,
                format!("{}: the server answered {status}", self.url),
                "the address may have moved: name a mirror with --from URL, or a file fetched elsewhere with --file PATH",
            )),
        }
    }

    /// The file from its beginning.
    fn whole(&mut self, response: Response<Body>, watch: &mut dyn FnMut(Event)) -> Result<Try, FetchError> {
        if self.part.length > 0 {
            let remark = "the file changed at the server, or it cannot continue a download; starting again";
            watch(Event::Remark(remark));
        }
        self.restart()?;
        let bytes = response.body().content_length();
        expected(self.url, bytes, self.file, &self.limits.sizes)?;
        if bytes.is_some_and(|bytes| bytes > self.limits.most) {
            return Err(self.too_long());
        }
        room(&self.part.path, bytes.unwrap_or(self.file.about_bytes))?;
        let version = Version::of(self.url, bytes, response.headers());
        let about = self.part.about();
        let text = serde_json::to_vec_pretty(&version).expect("plain data");
        fs::write(&about, text).map_err(|error| io_error(&about, &error))?;
        self.read(response, bytes, watch)
    }

    /// The rest of a file whose beginning is there.
    fn rest(
        &mut self,
        response: Response<Body>,
        version: &Version,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Try, FetchError> {
        let range = response.headers().get("content-range").and_then(|value| content_range(value.to_str().ok()?));
        let Some((start, total)) = range else {
            return self.anew("the server sent a range without saying which", watch);
        };
        if start != self.part.length || (version.bytes.is_some() && total.is_some() && version.bytes != total) {
            return self.anew("the server sent another range than the one asked for", watch);
        }
        let total = total.or(version.bytes);
        room(&self.part.path, total.unwrap_or(self.file.about_bytes).saturating_sub(start))?;
        self.read(response, total, watch)
    }

    fn anew(&mut self, why: &str, watch: &mut dyn FnMut(Event)) -> Result<Try, FetchError> {
        watch(Event::Remark(&format!("{why}; starting again")));
        self.restart()?;
        Ok(Try::Broken(why.into()))
    }

    fn read(
        &mut self,
        response: Response<Body>,
        total: Option<u64>,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Try, FetchError> {
        watch(Event::Begin(self.part.length, total));
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Try::Broken(format!("the connection broke ({error})"))),
            };
            if self.part.length + n as u64 > self.limits.most {
                return Err(self.too_long());
            }
            self.part.append(&buffer[..n])?;
            self.sums.update(&buffer[..n]);
            self.farthest = self.farthest.max(self.part.length);
            watch(Event::Bytes(self.part.length));
        }
        match total {
            Some(total) if self.part.length < total => Ok(Try::Broken("the connection ended early".into())),
            _ => Ok(Try::Done),
        }
    }

    /// Refuses a file of which there is more than may be taken; nothing of it stays.
    fn too_long(&mut self) -> FetchError {
        let left = self.restart().err();
        left.unwrap_or_else(|| too_long(self.url, self.limits.most))
    }

    fn unreachable(&self, error: &Error) -> FetchError {
        let host = self.url.split('/').nth(2).unwrap_or(self.url);
        FetchError::new(FailureKind::Unreachable, format!("{host} cannot be reached: {error}"), "")
    }

    fn given_up(&self, why: &str) -> FetchError {
        let problem =
            format!("{}: {why}; gave up with {} in {}", self.url, size(self.part.length), self.part.path.display());
        FetchError::new(FailureKind::Unreachable, problem, "the same command continues from there")
    }
}

/// `bytes 100-199/200` as 100 and 200; the total may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Whether no connection came about at all.
fn unreachable(error: &Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::ConnectProxyFailed(_) | Error::BadUri(_) => true,
        Error::Timeout(phase) => matches!(phase, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        Error::Io(error) => {
            matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable | TimedOut)
                || error.to_string().contains("lookup") // a resolver's failure has no kind of its own
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_with_and_without_its_total() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        assert_eq!(content_range("bytes */200"), None);
        assert_eq!(content_range("items 1-2/3"), None);
    }
}
