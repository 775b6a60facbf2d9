//! Offsets of data of the running kernel that no helper returns, and how they are read. The daemon
//! reads them from the kernel's type information (BTF) and gives them to the programs when it loads
//! them. Without type information, or without the permission to read, all are unknown, and the
//! verifier removes the code that would read.

/// What a field of [`Offsets`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BtfQuery {
    /// The offset of a member in a struct, in bits.
    Member(&'static str, &'static str),
    /// The number of a struct in the type information.
    Type(&'static str),
    /// The size of a struct, in bits.
    Size(&'static str),
    /// The value of an enumerator of an enum.
    Enumerator(&'static str, &'static str),
}

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident: $kind:ident($($name:literal),+),)*) => {
        /// As [`BtfQuery`] says of each field ([`Offsets::QUERIES`]); [`Offsets::UNKNOWN`] where the
        /// kernel has no such thing.
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
        pub struct Offsets {
            /// How the kernel's memory is read: [`Offsets::BY_TYPE`], [`Offsets::BY_HELPER`], or
            /// not at all.
            pub reading: u32,
            /// 1 if the kernel can segment any packet that was received in pieces with a smaller
            /// segment size; see `skb_segment` and "bpf: Fix a segment issue when downgrading
            /// gso_size" (CVE-2024-42281).
            pub can_shrink: u32,
            $($(#[$doc])* pub $field: u32,)*
        }

        impl Offsets {
            /// What the fields behind the first two are, in their order.
            pub const QUERIES: &'static [BtfQuery] = &[$(BtfQuery::$kind($($name),+),)*];

            /// All of them unknown.
            pub const NONE: Self = Self { reading: 0, can_shrink: 0, $($field: Self::UNKNOWN,)* };
        }
    };
}

impl Offsets {
    /// It is unknown, and must not be used.
    pub const UNKNOWN: u32 = u32::MAX;

    /// Programs may load from an address that they call a struct (`bpf_rdonly_cast`, from Linux 6.2
    /// on): what is not mapped reads as 0.
    pub const BY_TYPE: u32 = 1;

    /// Programs may call `bpf_probe_read_kernel`, which takes ten times as long.
    pub const BY_HELPER: u32 = 2;

    /// Number of the helper that stands in the object for `bpf_rdonly_cast`, which each kernel has
    /// under another number. There is no such helper.
    pub const CAST: u32 = 0x7fff_6b66;
}

// Another one takes a line here, and `offset!(field)` in the programs.
offsets! {
    /// The kernel's own packet.
    sk_buff: Type("sk_buff"),
    /// How many hold the packet: a `refcount_t`.
    skb_users: Member("sk_buff", "users"),
    /// Bytes of memory that it takes: 4 bytes.
    skb_truesize: Member("sk_buff", "truesize"),
    /// Where its memory begins: a pointer.
    skb_head: Member("sk_buff", "head"),
    /// Where the `skb_shared_info` is, counted from `head`: 4 bytes.
    skb_end: Member("sk_buff", "end"),
    /// A bit: what is in it is to be encrypted by the NIC (kTLS, PSP).
    skb_decrypted: Member("sk_buff", "decrypted"),
    /// Which extensions it has: a byte, a bit for each.
    skb_active_extensions: Member("sk_buff", "active_extensions"),
    /// A pointer to the extensions.
    skb_extensions: Member("sk_buff", "extensions"),
    /// What stands behind the packet's bytes.
    skb_shared_info: Type("skb_shared_info"),
    /// Flags for the transmission: a byte.
    shared_tx_flags: Member("skb_shared_info", "tx_flags"),
    /// A pointer to the packets that belong to it.
    shared_frag_list: Member("skb_shared_info", "frag_list"),
    /// The extensions of a packet.
    skb_ext: Type("skb_ext"),
    /// Where each extension begins, in units of 8 bytes: a byte each.
    ext_offset: Member("skb_ext", "offset"),
    /// The number of the extension with what IPsec has done or is to do.
    ext_sec_path: Enumerator("skb_ext_id", "SKB_EXT_SEC_PATH"),
    /// That extension.
    sec_path: Type("sec_path"),
    /// In that: how many times the NIC is to encrypt the packet; 4 bytes.
    sec_path_olen: Member("sec_path", "olen"),
    /// An interface.
    net_device: Type("net_device"),
    /// The interface that a packet is on: a pointer.
    skb_dev: Member("sk_buff", "dev"),
    /// The transmit queues of an interface: a pointer to an array.
    device_tx: Member("net_device", "_tx"),
    /// How many there are: 4 bytes.
    device_queues: Member("net_device", "num_tx_queues"),
    /// The interfaces above it and below it: two `struct list_head`.
    device_neighbours: Member("net_device", "adj_list"),
    /// An entry in these lists.
    netdev_adjacent: Type("netdev_adjacent"),
    /// The interface in it: a pointer.
    lower_device: Member("netdev_adjacent", "dev"),
    /// The link to the next element of the list: a `struct list_head`.
    lower_list: Member("netdev_adjacent", "list"),
    /// A link of a list.
    list_head: Type("list_head"),
    /// The next one: a pointer.
    list_next: Member("list_head", "next"),
    /// A transmit queue.
    netdev_queue: Type("netdev_queue"),
    /// How long it is.
    queue_bytes: Size("netdev_queue"),
    /// Its queueing discipline: a pointer.
    queue_qdisc: Member("netdev_queue", "qdisc"),
    /// A queueing discipline.
    qdisc: Type("Qdisc"),
    /// What takes a packet; null in one that holds none: a pointer.
    qdisc_enqueue: Member("Qdisc", "enqueue"),
    /// Its flags: 4 bytes.
    qdisc_flags: Member("Qdisc", "flags"),
    /// What it counts: a `struct gnet_stats_queue`.
    qdisc_stats: Member("Qdisc", "qstats"),
    /// What a queueing discipline counts.
    gnet_stats_queue: Type("gnet_stats_queue"),
    /// Bytes that it holds: 4 bytes.
    stats_backlog: Member("gnet_stats_queue", "backlog"),
    /// Its packets: a `struct qdisc_skb_head`.
    qdisc_list: Member("Qdisc", "q"),
    /// A list of packets.
    qdisc_skb_head: Type("qdisc_skb_head"),
    /// How many there are: 4 bytes.
    list_length: Member("qdisc_skb_head", "qlen"),
    /// What belongs to the kind of a queueing discipline; for `pfifo_fast` an array of rings.
    qdisc_private: Member("Qdisc", "privdata"),
    /// How long a ring is.
    ring_bytes: Size("skb_array"),
    /// A ring.
    ptr_ring: Type("ptr_ring"),
    /// Where the next packet is put: 4 bytes.
    ring_producer: Member("ptr_ring", "producer"),
    /// The position of the consumer: 4 bytes.
    ring_consumer: Member("ptr_ring", "consumer_head"),
    /// Packets that it has room for: 4 bytes.
    ring_size: Member("ptr_ring", "size"),
    /// Its places: a pointer to an array of pointers.
    ring_places: Member("ptr_ring", "queue"),
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), `Copy`, no padding (`bytemuck::Pod`), any bytes are a valid value.
    unsafe impl aya::Pod for super::Offsets {}
}
