//! A web server of a few lines, with the bad manners that a download must bear.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is served, and how badly.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Content by path, `/a/b.txt`.
    pub files: HashMap<String, Vec<u8>>,
    /// This many answers to come are cut after so many bytes of their body.
    pub cuts: Vec<usize>,
    /// Whether `Range` is heeded.
    pub ranges: bool,
    /// Names the version of every file; `If-Range` is held against it.
    pub etag: Option<String>,
    /// Bytes that an answer claims to hold beyond those it has.
    pub claims_more: usize,
    /// Whether answers come in chunks, without a word about their length.
    pub chunked: bool,
    /// An answer of this status, without a body, to every request.
    pub status: Option<u16>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            cuts: Vec::new(),
            ranges: true,
            etag: Some("\"one\"".into()),
            claims_more: 0,
            chunked: false,
            status: None,
        }
    }
}

/// A server on a port of its own; it ends with the test's process.
#[derive(Clone, Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<(Manners, Vec<String>)>>,
}

impl Server {
    /// Serves these files well.
    pub fn of(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, content)| (path.to_string(), content.to_vec())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(Mutex::new((Manners { files, ..Manners::default() }, Vec::new())));
        let server = Self { address, state };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serving.answer(stream); // a client that hangs up is no fault of the server's
            }
        });
        server
    }

    /// What a mirror of it is called.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes its manners.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.state().0);
    }

    /// The requests so far: `GET /a/b.txt`, with ` range 5-` where a rest was asked for.
    pub fn requests(&self) -> Vec<String> {
        self.state().1.clone()
    }

    fn state(&self) -> MutexGuard<'_, (Manners, Vec<String>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (path, headers) = read_request(&stream)?;
        let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let start: Option<usize> = range.and_then(|start| start.parse().ok());
        let (manners, cut) = {
            let mut state = self.state();
            let asked = start.map_or(String::new(), |start| format!(" range {start}-"));
            state.1.push(format!("GET {path}{asked}"));
            let cut = if state.0.cuts.is_empty() { None } else { Some(state.0.cuts.remove(0)) };
            (state.0.clone(), cut)
        };
        let content = manners.files.get(&path);
        let status = manners.status.or(content.is_none().then_some(404));
        let (Some(content), None) = (content, status) else {
            let status = status.unwrap_or(404);
            return stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes());
        };
        let same = headers.get("if-range").is_none_or(|version| Some(version) == manners.etag.as_ref());
        let start = start.filter(|&start| manners.ranges && same && start < content.len());
        let body = &content[start.unwrap_or(0)..];
        let etag = manners.etag.map_or(String::new(), |etag| format!("ETag: {etag}\r\n"));
        let length = body.len() + manners.claims_more;
        let head = match start {
            Some(start) => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            ),
            None => "HTTP/1.1 200 OK\r\n".into(),
        };
        if manners.chunked {
            let head = format!("{head}{etag}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            for chunk in body.chunks(1 << 16) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            return stream.write_all(b"0\r\n\r\n");
        }
        let head = format!("{head}{etag}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())])
    }
}

/// Path and headers, with names in small letters.
fn read_request(stream: &TcpStream) -> std::io::Result<(String, HashMap<String, String>)> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    Ok((path, headers))
}
