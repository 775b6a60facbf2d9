//! What a test has sent and captured, for whoever wants to know why it failed: the last of it goes
//! into a file when the test's thread ends.

use anyhow::{Context as _, Result};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes of frames that are kept; older ones make room.
const MOST_BYTES: usize = 4 << 20;

/// The last frames of the packet sockets that a thread has opened since it called [`begin`].
#[derive(Debug, Default)]
pub struct Recording(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By their number in the file.
    interfaces: Vec<String>,
    frames: VecDeque<Recorded>,
    bytes: usize,
}

#[derive(Debug)]
struct Recorded {
    interface: u32,
    is_sent: bool,
    /// Since 1970.
    time: Duration,
    bytes: Vec<u8>,
}

/// Writes the file at the end of the thread.
struct AtEnd {
    recording: Arc<Recording>,
    path: PathBuf,
}

thread_local! {
    static CURRENT: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
}

/// From here on what this thread's packet sockets send and receive is recorded. The path of the file
/// is printed, which the test harness shows of a test that fails. Once begun, it goes on.
pub fn begin() -> Arc<Recording> {
    let current = CURRENT.with_borrow(|current| Some(Arc::clone(&current.as_ref()?.recording)));
    current.unwrap_or_else(|| {
        let recording = Arc::default();
        resume(&recording);
        recording
    })
}

/// Sockets that another thread has opened are this one's now: what they have recorded is forgotten.
pub fn resume(recording: &Arc<Recording>) {
    recording.clear();
    let path = path();
    println!("what was sent and captured: {}", path.display());
    let at_end = AtEnd {
        recording: Arc::clone(recording),
        path,
    };
    // what was there before is written now
    drop(CURRENT.replace(Some(at_end)));
}

/// `target/pcap/<test>.pcapng`, or the same in the system's directory for temporary files where the
/// tests were not built.
fn path() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let parent = target
        .canonicalize()
        .unwrap_or_else(|_| std::env::temp_dir());
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test").replace("::", ".");
    parent.join("pcap").join(name + ".pcapng")
}

impl Recording {
    /// Forgets what has been recorded, as of a test that has passed.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.frames.clear();
        kept.bytes = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the frames, if there are any.
    fn write(&self, path: &Path) -> Result<()> {
        let kept = self.lock();
        if kept.frames.is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(path.parent().context("no directory")?)?;
        let mut file = PcapNgWriter::new(BufWriter::new(File::create(path)?))?;
        for name in &kept.interfaces {
            file.write_pcapng_block(InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    // nanoseconds
                    InterfaceDescriptionOption::IfTsResol(9),
                ],
            })?;
        }
        for frame in &kept.frames {
            // the lowest bits of epb_flags: 1 is inbound, 2 outbound
            let flags = if frame.is_sent { 2 } else { 1 };
            file.write_pcapng_block(EnhancedPacketBlock {
                interface_id: frame.interface,
                timestamp: frame.time,
                original_len: frame.bytes.len() as u32,
                data: Cow::Borrowed(&frame.bytes),
                options: vec![EnhancedPacketOption::Flags(flags)],
            })?;
        }
        Ok(())
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Err(error) = self.recording.write(&self.path) {
            eprintln!("write {}: {error:#}", self.path.display());
        }
    }
}

/// What a socket tells of its frames.
#[derive(Debug)]
pub(super) struct Tap {
    recording: Arc<Recording>,
    interface: u32,
}

impl Tap {
    /// For a socket that this thread opens; `None` unless it records.
    pub(super) fn new(netns: &str, interface: &str) -> Option<Self> {
        let recording =
            CURRENT.with_borrow(|current| Some(Arc::clone(&current.as_ref()?.recording)))?;
        let interface = {
            let mut kept = recording.lock();
            kept.interfaces.push(format!("{interface} of {netns}"));
            kept.interfaces.len() as u32 - 1
        };
        Some(Self {
            recording,
            interface,
        })
    }

    pub(super) fn sent(&self, bytes: &[u8]) {
        self.note(true, bytes);
    }

    pub(super) fn received(&self, bytes: &[u8]) {
        self.note(false, bytes);
    }

    fn note(&self, is_sent: bool, bytes: &[u8]) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut kept = self.recording.lock();
        kept.bytes += bytes.len();
        kept.frames.push_back(Recorded {
            interface: self.interface,
            is_sent,
            time: since_1970.unwrap_or_default(),
            bytes: bytes.to_vec(),
        });
        while kept.bytes > MOST_BYTES {
            let oldest = kept.frames.pop_front();
            kept.bytes -= oldest.map_or(0, |frame| frame.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::deadline;
    use crate::lab::netns::Netns;
    use crate::lab::packet::eth;
    use crate::lab::socket::{Capture, PacketSocket};
    use crate::lab::veth::veth;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn what_was_sent_and_received_is_in_the_file_when_the_thread_has_ended() -> Result<()> {
        let netns = Netns::new("lab-pcap")?;
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        veth(&netns, "eth0", &netns, "eth1")?;
        let frame = eth().payload([7; 100]).build();
        let test = || -> Result<PathBuf> {
            begin();
            let open = |interface, capture| PacketSocket::open(&netns, interface, capture);
            let [from, to] = [
                open("eth0", Capture::Nothing)?,
                open("eth1", Capture::Incoming)?,
            ];
            from.send(&frame)?;
            to.recv(deadline())?.context("nothing came")?;
            Ok(path())
        };
        let thread = std::thread::Builder::new().name("a::test".to_owned());
        let path = std::thread::scope(|scope| {
            let running = thread.spawn_scoped(scope, test)?;
            running.join().expect("it does not panic")
        })?;
        assert!(path.ends_with("pcap/a.test.pcapng"), "{}", path.display());
        let mut file = PcapNgReader::new(File::open(&path)?)?;
        let (mut names, mut frames) = (Vec::new(), Vec::new());
        while let Some(block) = file.next_block() {
            match block?.into_owned() {
                Block::InterfaceDescription(interface) => names.push(interface.options),
                Block::EnhancedPacket(packet) => {
                    frames.push((packet.interface_id, packet.data.into_owned()));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(names.len(), 2);
        assert!(
            format!("{names:?}").contains("eth1 of lab-pcap"),
            "{names:?}"
        );
        assert_eq!(frames, [(0, frame.clone()), (1, frame)]);
        Ok(std::fs::remove_file(path)?)
    }
}
