//! A process that starts runs as copies of itself: libtorch is loaded once, not once a run.
//!
//! ```text
//! sweep ── fork ──> template ── fork ──> a process that ends at once ── fork ──> run
//!   └─────────────── its parent, once the process between has ended ───────────────┘
//! ```
//!
//! A run stays a process of its own: its memory, its limits, its signals and its death are as if it had been started anew.
//! The template has one thread and computes nothing, since a copy has the one thread that forked: what another held would
//! stay locked in it for good, and a pool of OpenMP would have lost its threads. It is forked before its parent has a second
//! thread ([`Template::fork`]), or started anew where libtorch must see another environment ([`Template::spawn`]).

use crate::base::process::{computing, name_process};
use crate::base::signals;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitStatus, Stdio};

/// What a run does: the command line in, the exit code out.
pub type Work<'a> = dyn Fn(Vec<OsString>) -> u8 + 'a;

/// Longest command line that is sent, bytes.
const LONGEST: usize = 1 << 16;
/// Standard input, output and error.
const FILES: usize = 3;
/// The exit code of a panic, as the standard library has it.
const PANICKED: u8 = 101;

/// The template, as the process sees it that asks it for runs. It ends when this is dropped, or its owner dies.
#[derive(Debug)]
pub struct Template {
    socket: Option<OwnedFd>,
    process: Forked,
}

/// A process whose parent this one is, though it did not start it by a `Command`.
#[derive(Debug)]
pub struct Forked {
    pid: libc::pid_t,
    ended: Option<ExitStatus>,
}

impl Template {
    /// Forks one, whose runs do `work`; `None` where this process has several threads, or the system is not Linux.
    pub fn fork(work: &Work) -> Option<Self> {
        if threads() != Some(1) || !adopt_orphans() {
            return None;
        }
        let (ours, its) = socket_pair().ok()?;
        let pid = signals::blocked(|| {
            // SAFETY: this process has one thread, so the copy may do whatever this one may.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: the descriptor is open, and nothing in this copy uses it again.
                unsafe { libc::close(ours.as_raw_fd()) };
                serve(&its, work);
            }
            pid
        });
        (pid > 0).then(|| Self { socket: Some(ours), process: Forked::of(pid) })
    }

    /// Starts one anew, with libtorch set for so many threads. Its command line is `mixarena template`, which calls [`serve_stdin`].
    pub fn spawn(threads: usize) -> io::Result<Self> {
        if !adopt_orphans() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (ours, its) = socket_pair()?;
        let mut command = computing(threads)?;
        command.arg("template").stdin(its).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = signals::blocked(|| command.spawn())?;
        Ok(Self { socket: Some(ours), process: Forked::of(child.id() as libc::pid_t) })
    }

    /// Whether this process sees what runs with so many threads shall see: only when it starts does libgomp read how threads wait.
    pub fn fits(threads: usize) -> bool {
        threads == 1 || std::env::var_os("OMP_WAIT_POLICY").is_some()
    }

    /// Starts a run with these arguments (the program's name among them) and files for its standard input, output and error.
    pub fn start(&self, arguments: &[OsString], files: [BorrowedFd; FILES]) -> io::Result<Forked> {
        let socket = self.socket.as_ref().expect("open until it is dropped").as_fd();
        let text = arguments.iter().map(|argument| argument.as_bytes()).collect::<Vec<_>>().join(&0);
        if text.len() > LONGEST {
            return Err(io::Error::other("the command line is too long"));
        }
        send(socket, &text, &files)?;
        let mut answer = [0; 4];
        match receive(socket, &mut answer)? {
            (4, _) => Forked::answered(i32::from_ne_bytes(answer)),
            _ => Err(io::Error::other("the process that starts runs has ended")),
        }
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        drop(self.socket.take());
        let _ = self.process.wait();
    }
}

impl Forked {
    fn of(pid: libc::pid_t) -> Self {
        Self { pid, ended: None }
    }

    /// From what the template answers: a process number, or an error's negative one.
    fn answered(number: i32) -> io::Result<Self> {
        if number > 0 { Ok(Self::of(number)) } else { Err(io::Error::from_raw_os_error(-number)) }
    }

    /// Kills it, unless its end is known.
    pub fn kill(&mut self) -> io::Result<()> {
        // SAFETY: no memory is involved. Until its end was waited for, the number belongs to no other process.
        match self.ended.is_some() || unsafe { libc::kill(self.pid, libc::SIGKILL) } == 0 {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = ExitStatus::from_raw(wait(self.pid)?);
        self.ended = Some(status);
        Ok(status)
    }
}

/// What a template does that was started anew: its standard input is the socket.
pub fn serve_stdin(work: &Work) -> ! {
    match io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => serve(&socket, work),
        Err(_) => end(1),
    }
}

/// The template: starts a run for every message, until the other end is closed.
fn serve(socket: &OwnedFd, work: &Work) -> ! {
    name_process(c"mixarena-forks");
    // A group of its own: the terminal's Ctrl-C reaches the sweep, which passes it on. Its files are nobody's: a reader of the
    // sweep's output waits for the sweep alone.
    // SAFETY: concerns this process alone.
    unsafe { libc::setpgid(0, 0) };
    let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    if let Ok(nothing) = nothing {
        take_files([nothing.as_fd(); FILES]);
    }
    let mut text = vec![0; LONGEST];
    loop {
        let Ok((length @ 1.., files)) = receive(socket.as_fd(), &mut text) else { end(0) };
        let arguments = text[..length].split(|byte| *byte == 0).map(|part| OsString::from_vec(part.to_vec())).collect();
        let answer = match <[OwnedFd; FILES]>::try_from(files) {
            Ok(files) => start(socket, arguments, files, work),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let number = answer.unwrap_or_else(|error| -error.raw_os_error().unwrap_or(libc::EIO));
        if send(socket.as_fd(), &number.to_ne_bytes(), &[]).is_err() {
            end(0);
        }
    }
}

/// Forks a run by way of a process that ends at once, so that the template's parent becomes the run's. The run's number.
fn start(socket: &OwnedFd, arguments: Vec<OsString>, files: [OwnedFd; FILES], work: &Work) -> io::Result<i32> {
    let (from, mut to) = io::pipe()?;
    // SAFETY: here and below: this process has one thread, so the copy may do whatever this one may.
    let between = unsafe { libc::fork() };
    if between == 0 {
        let number = match unsafe { libc::fork() } {
            0 => {
                // SAFETY: both are open, and nothing in this copy uses them again.
                unsafe { libc::close(socket.as_raw_fd()) };
                drop((from, to));
                run(arguments, files, work)
            }
            -1 => -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN),
            pid => pid,
        };
        let _ = to.write_all(&number.to_ne_bytes());
        end(0);
    }
    drop(to);
    if between < 0 {
        return Err(io::Error::last_os_error());
    }
    wait(between)?;
    read_number(from)
}

fn read_number(mut from: PipeReader) -> io::Result<i32> {
    let mut number = [0; 4];
    from.read_exact(&mut number)?;
    match i32::from_ne_bytes(number) {
        number @ 1.. => Ok(number),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// The run: a process group and files of its own, then the work.
fn run(arguments: Vec<OsString>, files: [OwnedFd; FILES], work: &Work) -> ! {
    // SAFETY: concerns this process alone.
    unsafe { libc::setpgid(0, 0) };
    take_files(files.each_ref().map(AsFd::as_fd));
    drop(files);
    // Nothing of the template's callers may run in this copy.
    end(catch_unwind(AssertUnwindSafe(|| work(arguments))).unwrap_or(PANICKED))
}

/// Ends the process now, once its output is written. At an ordinary end libtorch takes its tables apart, which takes as long as
/// building them.
pub fn end(code: u8) -> ! {
    let _ = io::stdout().flush();
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Makes them standard input, output and error.
fn take_files(files: [BorrowedFd; FILES]) {
    for (file, number) in files.iter().zip(0..) {
        // SAFETY: the descriptor is open; what stood at the number before is closed.
        unsafe { libc::dup2(file.as_raw_fd(), number) };
    }
}

/// Lets processes whose parent ends become children of this one. Whether that works here.
#[cfg(target_os = "linux")]
fn adopt_orphans() -> bool {
    // SAFETY: sets a flag of this process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn adopt_orphans() -> bool {
    false
}

/// Threads of this process; `None` where the system does not tell.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// The status of a child once it has ended.
fn wait(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: writes the status into an integer of ours.
        if unsafe { libc::waitpid(pid, &mut status, 0) } == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Two ends of a connection that keeps messages apart.
fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors into the array, which nobody else owns.
    unsafe {
        match libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) {
            0 => Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Room for the descriptors that travel with a message, aligned as their header wants it.
type Ancillary = [u64; 8];

/// The header of a message with one buffer.
fn header(buffer: &mut libc::iovec, ancillary: &mut Ancillary, length: usize) -> libc::msghdr {
    // SAFETY: the struct is made of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffer;
    message.msg_iovlen = 1;
    if length > 0 {
        message.msg_control = ancillary.as_mut_ptr().cast();
        message.msg_controllen = length as _;
    }
    message
}

fn send(socket: BorrowedFd, bytes: &[u8], files: &[BorrowedFd]) -> io::Result<()> {
    let mut ancillary = Ancillary::default();
    let mut buffer = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let size = (files.len() * size_of::<libc::c_int>()) as libc::c_uint;
    // SAFETY: CMSG_SPACE is arithmetic. The first header and its data lie in `ancillary`, which has room for three descriptors;
    // `sendmsg` only reads.
    let sent = unsafe {
        let message =
            header(&mut buffer, &mut ancillary, if files.is_empty() { 0 } else { libc::CMSG_SPACE(size) as usize });
        let first = libc::CMSG_FIRSTHDR(&message);
        if let Some(first) = first.as_mut() {
            first.cmsg_level = libc::SOL_SOCKET;
            first.cmsg_type = libc::SCM_RIGHTS;
            first.cmsg_len = libc::CMSG_LEN(size) as _;
            for (at, file) in files.iter().enumerate() {
                libc::CMSG_DATA(first).cast::<libc::c_int>().add(at).write_unaligned(file.as_raw_fd());
            }
        }
        libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A message's length, and the descriptors that came with it; length 0: the other end is closed.
fn receive(socket: BorrowedFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut ancillary = Ancillary::default();
    let mut buffer = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut message = header(&mut buffer, &mut ancillary, size_of::<Ancillary>());
    loop {
        // SAFETY: `recvmsg` writes at most as much as the buffers hold, and no Rust code reads them meanwhile.
        let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
        if length >= 0 {
            return Ok((length as usize, received(&message)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The descriptors of a message that was received.
fn received(message: &libc::msghdr) -> Vec<OwnedFd> {
    // SAFETY: the kernel wrote the header, and its length says how many descriptors follow; they are new, so nobody else owns them.
    unsafe {
        let Some(first) = libc::CMSG_FIRSTHDR(message).as_ref() else { return Vec::new() };
        if (first.cmsg_level, first.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            return Vec::new();
        }
        #[expect(clippy::unnecessary_cast, reason = "the length has another type on other systems")]
        let count = (first.cmsg_len as usize - libc::CMSG_LEN(0) as usize) / size_of::<libc::c_int>();
        let data = libc::CMSG_DATA(first).cast::<libc::c_int>();
        (0..count).map(|at| OwnedFd::from_raw_fd(data.add(at).read_unaligned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a test is alone in its process: what another held at the fork would stay locked in the copy.
    fn alone(test: &str) -> bool {
        crate::laws::samples::alone(&format!("{}::{test}", module_path!()))
    }

    /// A template forked by a test, beside which only the thread lives that waits for it.
    fn template(work: &Work) -> Template {
        assert!(adopt_orphans());
        let (ours, its) = socket_pair().unwrap();
        // SAFETY: see above.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: the descriptor is open, and nothing in this copy uses it again.
            unsafe { libc::close(ours.as_raw_fd()) };
            serve(&its, work);
        }
        Template { socket: Some(ours), process: Forked::of(pid) }
    }

    fn null() -> std::fs::File {
        std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap()
    }

    #[test]
    fn a_process_with_several_threads_forks_no_template() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receiver.recv());
        assert!(Template::fork(&|_| 0).is_none());
        drop(sender);
        let _ = other.join();
    }

    #[test]
    fn a_run_has_its_files_its_group_its_exit_code_and_this_process_as_its_parent() {
        if !alone("a_run_has_its_files_its_group_its_exit_code_and_this_process_as_its_parent") {
            return;
        }
        let template = template(&|arguments| {
            let mut byte = [0];
            // SAFETY: plain system calls.
            let group = unsafe {
                libc::read(0, byte.as_mut_ptr().cast(), 1);
                libc::write(1, byte.as_ptr().cast(), 1);
                libc::getpgrp() == libc::getpid()
            };
            arguments.len() as u8 + 10 * u8::from(group)
        });
        let ((input, mut ours), (mut theirs, output), null) = (io::pipe().unwrap(), io::pipe().unwrap(), null());
        let files = [input.as_fd(), output.as_fd(), null.as_fd()];
        let mut run = template.start(&["mixarena".into(), "a b".into(), "".into()], files).unwrap();
        drop((input, output));
        ours.write_all(b"x").unwrap();
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"x", "and the template keeps no copy of the files");
        assert_eq!(run.wait().unwrap().code(), Some(13));
        assert_eq!(run.wait().unwrap().code(), Some(13), "asked again");
        run.kill().unwrap();
    }

    #[test]
    fn a_run_that_is_killed_says_so_and_a_template_that_is_gone_starts_none() {
        if !alone("a_run_that_is_killed_says_so_and_a_template_that_is_gone_starts_none") {
            return;
        }
        let mut template = template(&|_| loop {
            std::thread::park();
        });
        let null = null();
        let start = |template: &Template| template.start(&["mixarena".into()], [null.as_fd(); FILES]);
        let mut run = start(&template).unwrap();
        run.kill().unwrap();
        assert_eq!(run.wait().unwrap().signal(), Some(libc::SIGKILL));
        template.process.kill().unwrap();
        template.process.wait().unwrap();
        assert!(start(&template).is_err());
    }
}
