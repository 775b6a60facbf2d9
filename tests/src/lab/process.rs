//! Child processes that end in time.

use anyhow::{Context as _, Result, bail};
use std::io::Read;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use super::wait_readable;

/// Waits for `child` to exit; `None` at the deadline.
pub fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    // SAFETY: the system call takes two integers; the child has not been reaped, so that its number
    // is not another's.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("pidfd_open of process {}", child.id()));
    }
    // SAFETY: the kernel has just given this descriptor to us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    match wait_readable(&[pidfd.as_fd()], deadline)? {
        Some(_) => Ok(Some(child.wait()?)),
        None => Ok(None),
    }
}

/// Runs `command` to its end with standard input empty. At the deadline it is killed, which is an
/// error.
pub fn output(command: &mut Command, deadline: Instant) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        let waited = wait(&mut child, deadline);
        if !matches!(waited, Ok(Some(_))) {
            child.kill()?;
            child.wait()?;
        }
        let mut output = Output {
            status: ExitStatus::default(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        output.stdout = stdout.join().expect("the reader does not panic")?;
        output.stderr = stderr.join().expect("the reader does not panic")?;
        match waited? {
            Some(status) => output.status = status,
            None => bail!("{command:?} did not end in time{}", said(&output)),
        }
        Ok(output)
    })
}

/// Like [`output`], and any exit status but 0 is an error that holds what the command said. Returns
/// standard output.
pub fn succeed(command: &mut Command, deadline: Instant) -> Result<String> {
    let output = output(command, deadline)?;
    if !output.status.success() {
        bail!("{command:?}: {}{}", output.status, said(&output));
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {command:?}"))
}

/// The exit code, or 128 and the signal's number as in a shell.
pub fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn read_all(stream: Option<impl Read>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream
        .map(|mut stream| stream.read_to_end(&mut bytes))
        .transpose()?;
    Ok(bytes)
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).trim_end().to_owned());
    streams
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| format!("\n{text}"))
        .collect()
}
