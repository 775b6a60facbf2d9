//! Where packets go.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write as _};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::errno::Errno;
use pcap_file::pcap::{PcapHeader, PcapPacket};
use pcap_file::{DataLink, PcapError, TsResolution};

use crate::gue::Inner;

/// Longest packet.
pub(crate) const MOST_BYTES: usize = 65_535;
/// The most that the kernel allows: tools size their buffers by it.
const TAP_MTU: libc::c_int = 65_521;
const TUN: &str = "/dev/net/tun";
/// Locally administered addresses: what a tool sees as source and destination of each frame.
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
const ETHERTYPES: [[u8; 2]; 2] = [[0x08, 0x00], [0x86, 0xdd]];

/// Where packets go.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A pcap file with packets that begin with their IP header and nanoseconds.
    Pcap(BufWriter<Stdout>),
    /// An interface whose other end is this program.
    Tap(File),
}

/// What the kernel is asked about an interface.
fn request(name: &str) -> anyhow::Result<libc::ifreq> {
    // with a % the kernel would choose the name
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('%') {
        bail!(
            "interface name {name:?} has not 1 to {} bytes, or a %",
            libc::IFNAMSIZ - 1
        );
    }
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(file: &impl AsRawFd, code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the descriptor is open; the request is valid and ends its name with 0.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), code, request) };
    Errno::result(done).map(drop).map_err(Into::into)
}

/// Frames have another destination than the interface: tools that capture see them, and the host's
/// own IP does not.
fn bring_up(name: &str) -> anyhow::Result<()> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let mut mtu = request(name)?;
    mtu.ifr_ifru.ifru_mtu = TAP_MTU;
    ioctl(&socket, libc::SIOCSIFMTU, &mut mtu)?;
    let mut flags = request(name)?;
    ioctl(&socket, libc::SIOCGIFFLAGS, &mut flags)?;
    // SAFETY: the call above has set the flags.
    let known = unsafe { flags.ifr_ifru.ifru_flags };
    flags.ifr_ifru.ifru_flags = known | (libc::IFF_UP | libc::IFF_NOARP) as i16;
    Ok(ioctl(&socket, libc::SIOCSIFFLAGS, &mut flags)?)
}

impl Sink {
    /// Begins a pcap file on standard output.
    ///
    /// # Errors
    /// It cannot be written, or is a terminal.
    pub(crate) fn pcap() -> anyhow::Result<Self> {
        use std::io::IsTerminal as _;
        let stdout = io::stdout();
        ensure!(
            !stdout.is_terminal(),
            "standard output is a terminal; write to a program or a file: traffic-mirror-collector ... | tcpdump -n -r -"
        );
        let mut writer = BufWriter::with_capacity(1 << 20, stdout);
        let header = PcapHeader {
            snaplen: MOST_BYTES as u32,
            datalink: DataLink::RAW,
            ts_resolution: TsResolution::NanoSecond,
            endianness: pcap_file::Endianness::Little,
            ..PcapHeader::default()
        };
        header.write_to(&mut writer)?;
        writer.flush()?;
        Ok(Self::Pcap(writer))
    }

    /// Opens a tap interface, or makes it. One that is made goes with this program.
    ///
    /// # Errors
    /// The name is too long, or the kernel rejects it.
    pub(crate) fn tap(name: &str) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(TUN);
        let file = file.with_context(|| format!("cannot open {TUN}"))?;
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
        let mut request = request(name)?;
        request.ifr_ifru.ifru_flags = flags;
        ioctl(&file, libc::TUNSETIFF, &mut request).with_context(|| {
            let why = match Errno::last() {
                Errno::EPERM => "it takes CAP_NET_ADMIN",
                Errno::EINVAL => "the name is invalid, or another interface has it",
                Errno::EBUSY => "another program feeds it",
                _ => "the kernel rejects it",
            };
            format!("cannot make the tap interface {name}: {why}")
        })?;
        bring_up(name).with_context(|| format!("cannot set {name} up"))?;
        Ok(Self::Tap(file))
    }

    /// Writes a packet. False if the interface did not take it.
    ///
    /// # Errors
    /// Nobody reads any more, or the device fails.
    pub(crate) fn write(&mut self, inner: &Inner<'_>, at: Duration) -> io::Result<bool> {
        match self {
            Self::Pcap(writer) => {
                let packet = PcapPacket::new(at, inner.length as u32, inner.bytes);
                let written = packet.write_to::<_, byteorder::LittleEndian>(
                    writer,
                    TsResolution::NanoSecond,
                    MOST_BYTES as u32,
                );
                match written {
                    Ok(_) => Ok(true),
                    Err(PcapError::IoError(error)) => Err(error),
                    Err(error) => Err(io::Error::other(error)),
                }
            }
            Self::Tap(file) => {
                let mut frame = Vec::with_capacity(14 + inner.bytes.len());
                frame.extend(MACS);
                frame.extend(ETHERTYPES[usize::from(inner.is_ipv6)]);
                frame.extend(inner.bytes);
                match file.write(&frame) {
                    Ok(_) => Ok(true),
                    // the interface is down
                    Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Hands on what was written.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Pcap(writer) => writer.flush(),
            Self::Tap(_) => Ok(()),
        }
    }
}
