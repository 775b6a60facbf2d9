//! What is left of a TCP stream, and of a flood of small packets, while all of it is mirrored: each
//! mirror in a place of its own, all in turns.

use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::DEADLINE;
use traffic_mirror_tests::lab::cpu::Cpu;

use crate::report::{Group, Line, Unit};
use crate::session::{Runner, Session, rounds};
use crate::stage::{EDGE, Mirror, Stage};

const ROUNDS: usize = 15;
const STREAM_FOR: Duration = Duration::from_millis(400);
const CHUNK_BYTES: usize = 256 << 10;
/// Packets of a flood, and those that one system call sends.
const FLOOD: usize = 65_536;
const BATCH: usize = 64;
/// With headers of Ethernet, IPv4 and UDP, and the checksum of Ethernet, 64 bytes.
const PAYLOAD: [u8; 18] = [0; 18];
/// Least part of the packets that must have come to the collector; a mirror that loses more is not
/// compared. Where nothing is to be mirrored: that must not have come.
const LEAST_COPIED: f64 = 0.99;
const PORT: u16 = 5000;
const SENTINEL_PORT: u16 = 5001;

pub(crate) const STREAM: &str = "TCP stream, all of it mirrored";
pub(crate) const FLOODED: &str = "flood of 64-byte UDP packets, all mirrored";
pub(crate) const BESIDE: &str = "flood of 64-byte UDP packets, none mirrored";
/// What the share is of.
pub(crate) const NONE: &str = Mirror::Nobody.name();
pub(crate) const OURS: &str = Mirror::Ours.name();

/// All of them.
pub(crate) fn throughput(session: &mut Session) -> Result<()> {
    session.heading(&format!(
        "What is left while all is mirrored: median (quartiles) of {ROUNDS} rounds"
    ));
    let mirrored = [
        (STREAM, Group::Stream, Unit::Gigabits),
        (FLOODED, Group::Flood, Unit::Packets),
    ];
    measure(session, &Mirror::ALL, &mirrored)?;
    session.heading(&format!(
        "What is left beside filters for something else: median (quartiles) of {ROUNDS} rounds"
    ));
    measure(
        session,
        &Mirror::BESIDE,
        &[(BESIDE, Group::Beside, Unit::Packets)],
    )
}

fn measure(
    session: &mut Session,
    mirrors: &[Mirror],
    wanted: &[(&str, Group, Unit)],
) -> Result<()> {
    let names: Vec<&str> = wanted.iter().map(|(what, ..)| *what).collect();
    if !session.wants_any(&names) {
        return Ok(());
    }
    let mut stages = Vec::new();
    for (index, &mirror) in mirrors.iter().enumerate() {
        match Stage::new(mirror) {
            Ok(stage) => stages.push(stage),
            // without the first two there is nothing to say
            Err(error) if index < 2 => return Err(error),
            Err(error) => session.leave_out(mirror.name(), &error),
        }
    }
    for &(what, group, unit) in wanted {
        if !session.wants(what) {
            continue;
        }
        let before = stages
            .iter()
            .map(Stage::passed)
            .collect::<Result<Vec<_>>>()?;
        let mut runners: Vec<Runner<'_>> = Vec::new();
        for stage in &stages {
            runners.push(match group {
                Group::Stream => Box::new(move || stream(stage)),
                _ => Box::new(move || flood(stage)),
            });
        }
        let samples = rounds(ROUNDS, &mut runners)?;
        drop(runners);
        for (index, (stage, before)) in stages.iter().zip(before).enumerate() {
            let name = stage.mirror.name();
            if let Err(error) = is_right(stage, before) {
                session.leave_out(&format!("{what}: {name}"), &error);
                continue;
            }
            // the share that is left, and what the others are to ours
            let own = &samples[index];
            let mut line = Line::new(group, &format!("{what}: {name}"), 0, unit, own);
            for (reference, of) in stages.iter().zip(&samples).take(index.min(2)) {
                line = line.against(reference.mirror.name(), own, of);
            }
            session.add(line);
        }
    }
    Ok(())
}

/// Whether the collector has got what it should.
fn is_right(stage: &Stage, (in_before, out_before): (u64, u64)) -> Result<()> {
    let (received, copied) = stage.passed()?;
    let (received, copied) = (received - in_before, copied - out_before);
    let share = copied as f64 / received as f64;
    let is_right = if stage.mirror.mirrors() {
        share >= LEAST_COPIED
    } else {
        share <= 1.0 - LEAST_COPIED
    };
    ensure!(
        is_right,
        "{copied} copies of {received} packets have come to the collector"
    );
    Ok(())
}

/// Gigabits of payload in a second, sender and receiver on different CPUs.
fn stream(stage: &Stage) -> Result<f64> {
    let cpus = Cpu::all()?;
    let (first, last) = (cpus[0], *cpus.last().context("no CPU")?);
    let listener = stage
        .edge
        .enter(|| TcpListener::bind((EDGE, 0)).context("listen"))?;
    let to = listener.local_addr()?;
    let mut near = stage
        .client
        .enter(|| TcpStream::connect_timeout(&to, DEADLINE).context("connect"))?;
    let (mut far, _) = listener.accept().context("accept")?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(DEADLINE))?;
        end.set_write_timeout(Some(DEADLINE))?;
    }
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| last.run(|| receive(&mut far)));
        let sent = first.run(|| {
            let (chunk, begin) = (vec![0; CHUNK_BYTES], Instant::now());
            while begin.elapsed() < STREAM_FOR {
                near.write_all(&chunk).context("send")?;
            }
            near.shutdown(Shutdown::Write).context("end the stream")
        });
        let received = receiver.join().expect("the receiver does not panic");
        sent.and(received)
    })
}

fn receive(connection: &mut TcpStream) -> Result<f64> {
    let (mut buffer, mut bytes, begin) = (vec![0; CHUNK_BYTES], 0, Instant::now());
    loop {
        match connection.read(&mut buffer).context("receive")? {
            0 => return Ok(bytes as f64 * 8.0 / begin.elapsed().as_secs_f64() / 1e9),
            more => bytes += more,
        }
    }
}

/// Thousands of packets in a second, until the last one has been dealt with. All happens on one
/// CPU, in the order in which it is sent: so a packet behind them that arrives says that they have.
fn flood(stage: &Stage) -> Result<f64> {
    let last = *Cpu::all()?.last().context("no CPU")?;
    let [_sink, sentinel] = stage.edge.enter(|| {
        let [sink, sentinel] = [PORT, SENTINEL_PORT].map(|port| UdpSocket::bind((EDGE, port)));
        let (sink, sentinel) = (sink.context("bind")?, sentinel.context("bind")?);
        refuse_all(&sink)?;
        sentinel.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok([sink, sentinel])
    })?;
    stage.client.enter(|| {
        last.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).context("bind")?;
            socket.connect((EDGE, PORT)).context("connect")?;
            let behind = UdpSocket::bind(("0.0.0.0", 0)).context("bind")?;
            let begin = Instant::now();
            for _ in 0..FLOOD / BATCH {
                send_batch(&socket)?;
            }
            loop {
                behind
                    .send_to(&PAYLOAD, (EDGE, SENTINEL_PORT))
                    .context("send")?;
                if sentinel.recv(&mut [0; 64]).is_ok() {
                    break;
                }
                // it found a full queue
                ensure!(
                    begin.elapsed() < DEADLINE,
                    "what is sent behind a flood does not arrive"
                );
            }
            Ok(FLOOD as f64 / begin.elapsed().as_secs_f64() / 1e3)
        })
    })
}

/// What comes is dropped at the socket, as early as a receiver can.
fn refuse_all(socket: &UdpSocket) -> Result<()> {
    let mut code = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut code,
    };
    // SAFETY: the kernel reads the program and its one instruction, which live through the call.
    let done = unsafe {
        let (value, length) = (
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        );
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            value,
            length,
        )
    };
    nix::errno::Errno::result(done)
        .context("attach a filter to a socket")
        .map(drop)
}

fn send_batch(socket: &UdpSocket) -> Result<()> {
    let mut part = libc::iovec {
        iov_base: PAYLOAD.as_ptr().cast_mut().cast(),
        iov_len: PAYLOAD.len(),
    };
    // SAFETY: a struct of numbers and pointers, of which all zeros are a valid value.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (&raw mut part, 1);
    let mut messages = [message; BATCH];
    let mut sent = 0;
    while sent < BATCH {
        let rest = &mut messages[sent..];
        // SAFETY: the messages point to `part`, and that to `PAYLOAD`, which the kernel only reads;
        // all live through the call.
        let done =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
        sent += nix::errno::Errno::result(done).context("send")? as usize;
    }
    Ok(())
}
