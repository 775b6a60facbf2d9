use super::*;

fn endpoint(mtu: u32, outer_bytes: u32, oversize: Oversize) -> Endpoint {
    Endpoint {
        limit_bits: 0,
        limit_packets: 0,
        backlog: 1 << 26,
        state: 0,
        interface: 1,
        mtu,
        breaker: 1,
        outer_bytes,
        link_bytes: 14,
        link_known: 1,
        oversize: oversize as u32,
        snap: 0,
        sample: 1,
        link: [0; 16],
        outer: [0; crate::abi::OUTER_MAX_BYTES],
        segmenter: 0,
        checksum: 0,
        own_route: 0,
        summed: 0,
        reserved: 0,
    }
}

fn plain(bytes: u32) -> Size {
    Size {
        packets: 1,
        bytes,
        segment: bytes,
        gso: 0,
        trim: 0,
        bare: 0,
        brittle: 0,
    }
}

#[test]
fn fragments_hold_all_of_it_and_fit() {
    for (outer_bytes, header) in [(32, 20), (52, 48)] {
        for mtu in [1280, 1400, 1500, 1501, 9000] {
            for bytes in (mtu - outer_bytes + 1..9100).chain([20_000, 65_535 - 32]) {
                let fit = Fit::of(
                    &plain(bytes),
                    6,
                    &endpoint(mtu, outer_bytes, Oversize::Fragment),
                )
                .unwrap();
                let Fit {
                    fragments, piece, ..
                } = fit;
                assert!(
                    fragments > 1 && piece % 8 == 0 && piece + header <= mtu,
                    "{bytes} {mtu}: {fit:?}"
                );
                let last = bytes + 12 - (fragments - 1) * piece;
                assert!(
                    (PIECE_MIN..=piece).contains(&last),
                    "{bytes} {mtu}: {fit:?}"
                );
                assert_eq!(fit.outer_bytes, bytes + 12 + fragments * header);
            }
        }
    }
}

#[test]
fn what_fits_is_whole() {
    for oversize in [Oversize::Fragment, Oversize::Truncate, Oversize::Drop] {
        let (fits, endpoint) = (plain(1468), endpoint(1500, 32, oversize));
        let fit = Fit::of(&fits, 6, &endpoint).unwrap();
        assert!(Fit::is_plain(&fits, &endpoint) && Fit::plain(&fits, &endpoint) == fit);
        assert!(!Fit::is_plain(&plain(1469), &endpoint));
        assert!(!Fit::is_plain(
            &fits,
            &Endpoint {
                snap: 2000,
                ..endpoint
            }
        ));
        assert_eq!(
            (fit.fragments, fit.is_truncated, fit.length, fit.outer_bytes),
            (1, 0, 0, 1500)
        );
    }
    let padded = Size {
        trim: 40,
        ..plain(40)
    };
    assert_eq!(
        Fit::of(&padded, 6, &endpoint(1500, 32, Oversize::Drop))
            .unwrap()
            .length,
        40
    );
    let endpoint = endpoint(1500, 32, Oversize::Drop);
    assert!(Fit::is_plain(&padded, &endpoint) && Fit::plain(&padded, &endpoint).length == 40);
}

#[test]
fn what_does_not_fit_is_treated_as_asked() {
    let fit = |oversize| Fit::of(&plain(1469), 6, &endpoint(1500, 32, oversize));
    assert_eq!(fit(Oversize::Drop), Err(Drop::Oversize));
    let cut = fit(Oversize::Truncate).unwrap();
    assert_eq!(
        (cut.length, cut.is_truncated, cut.bytes, cut.outer_bytes),
        (1468, 1, 1468, 1500)
    );
    assert_eq!(fit(Oversize::Fragment).unwrap().fragments, 2);
    assert_eq!(
        Fit::of(&plain(1469), 6, &endpoint(80, 52, Oversize::Fragment)),
        Err(Drop::Oversize)
    );
}

/// The reassembled packet would be longer than an IP header can describe: no receiver could
/// reassemble it.
#[test]
fn no_outer_packet_is_longer_than_its_header_can_say() {
    for (outer_bytes, most) in [(32, 65_535 - 32), (52, 65_535 - 12)] {
        for mtu in [1500, 65_535, 65_600, 100_000] {
            let of =
                |bytes, oversize| Fit::of(&plain(bytes), 6, &endpoint(mtu, outer_bytes, oversize));
            assert!(
                of(most, Oversize::Fragment).is_ok_and(|fit| fit.bytes == most),
                "{mtu}"
            );
            assert_eq!(
                of(most + 1, Oversize::Fragment),
                Err(Drop::Oversize),
                "{mtu}"
            );
            assert!(
                of(most + 1, Oversize::Truncate)
                    .is_ok_and(|cut| cut.outer_bytes <= mtu && cut.bytes <= most)
            );
        }
    }
}

#[test]
fn where_nothing_fits_nothing_is_sent() {
    for (mtu, outer_bytes) in [(0, 32), (32, 32), (52, 52)] {
        for oversize in [Oversize::Fragment, Oversize::Truncate, Oversize::Drop] {
            assert_eq!(
                Fit::of(&plain(100), 6, &endpoint(mtu, outer_bytes, oversize)),
                Err(Drop::Oversize)
            );
        }
    }
}

#[test]
fn a_snap_comes_first() {
    let snapped = Endpoint {
        snap: 128,
        ..endpoint(1500, 32, Oversize::Drop)
    };
    let cut = Fit::of(&plain(9000), 6, &snapped).unwrap();
    assert_eq!((cut.length, cut.is_truncated, cut.fragments), (128, 1, 1));
    assert_eq!(Fit::of(&plain(128), 6, &snapped).unwrap().is_truncated, 0);
}

#[test]
fn superpackets_are_whole_where_their_segments_fit() {
    let size = |segment, gso| Size {
        packets: 10,
        bytes: 10 * segment,
        segment,
        gso,
        trim: 0,
        bare: 0,
        brittle: 0,
    };
    let endpoint = endpoint(1500, 32, Oversize::Fragment);
    let flags = |size, protocol| Fit::of(&size, protocol, &endpoint).map(|fit| fit.flags);
    assert_eq!(flags(size(1468, 1428), 6), Ok(cb::FIXED));
    assert_eq!(flags(size(1500, 1460), 6), Ok(0));
    assert_eq!(flags(size(1501, 1461), 6), Err(Drop::NoSegmenter));
    assert_eq!(flags(size(1469, 1441), 17), Err(Drop::NoSegmenter));
    assert_eq!(flags(size(1468, 1440), 17), Ok(cb::FIXED));
    // an MTU beyond 64 KiB makes no IP packet longer
    let wide = Endpoint {
        mtu: 100_000,
        ..endpoint
    };
    assert_eq!(
        Fit::of(&size(65_536, 65_496), 6, &wide),
        Err(Drop::NoSegmenter)
    );
    assert_eq!(
        Fit::of(&size(65_535, 65_495), 6, &wide).map(|fit| fit.flags),
        Ok(0)
    );
    let snapped = Endpoint {
        snap: 128,
        ..endpoint
    };
    let cut = Fit::of(&size(1500, 1460), 17, &snapped).unwrap();
    assert_eq!((cut.length, cut.bytes, cut.is_truncated), (128, 128, 1));
    assert_eq!(
        Fit::of(&size(128, 88), 6, &snapped).unwrap().is_truncated,
        0
    );
}

#[test]
fn what_cannot_be_cut_once_wrapped_or_needs_checksums_is_cut_before() {
    let size = |gso, bare| Size {
        packets: 10,
        bytes: 10_000,
        segment: 40 + gso,
        gso,
        trim: 0,
        bare,
        brittle: 0,
    };
    let whole = Endpoint {
        segmenter: 9,
        ..endpoint(1500, 32, Oversize::Fragment)
    };
    let fragments = |size: Size, protocol, endpoint: &Endpoint| {
        Fit::of(&size, protocol, endpoint).map(|fit| fit.fragments)
    };
    assert_eq!(fragments(size(1000, 0), 17, &whole), Ok(1));
    assert_eq!(fragments(size(1000, 1), 17, &whole), Ok(0));
    assert_eq!(
        fragments(
            size(1000, 1),
            17,
            &Endpoint {
                oversize: Oversize::Drop as u32,
                ..whole
            }
        ),
        Ok(0)
    );
    for segmenter in [0, Endpoint::SEGMENTER_REFUSED] {
        assert_eq!(
            fragments(size(1000, 1), 17, &Endpoint { segmenter, ..whole }),
            Err(Drop::NoSegmenter)
        );
    }
    let summed = Endpoint { summed: 1, ..whole };
    for (gso, protocol) in [(1000, 6), (1440, 6), (1000, 17)] {
        assert_eq!(
            fragments(size(gso, 0), protocol, &summed),
            Ok(0),
            "{gso} {protocol}"
        );
    }
    assert_eq!(
        fragments(
            size(1000, 0),
            6,
            &Endpoint {
                snap: 128,
                ..summed
            }
        ),
        Ok(0)
    );
    assert_eq!(
        Fit::of(&plain(1000), 6, &summed).map(|fit| fit.fragments),
        Ok(1)
    );
}

#[test]
fn what_the_kernel_may_not_cut_smaller_is_cut_into_packets_first() {
    let size = |gso, brittle| Size {
        packets: 10,
        bytes: 15_000,
        segment: 40 + gso,
        gso,
        trim: 0,
        bare: 0,
        brittle,
    };
    let endpoint = Endpoint {
        segmenter: 9,
        ..endpoint(1500, 32, Oversize::Fragment)
    };
    let fragments = |size: Size| Fit::of(&size, 6, &endpoint).map(|fit| fit.fragments);
    assert_eq!(
        (fragments(size(1460, 0)), fragments(size(1460, 1))),
        (Ok(1), Ok(0))
    );
    assert_eq!(
        fragments(size(1400, 1)),
        Ok(1),
        "segments that keep their size"
    );
}

#[test]
fn superpackets_that_do_not_fit_are_cut_into_packets_first() {
    let size = |gso| Size {
        packets: 10,
        bytes: 15_000,
        segment: 40 + gso,
        gso,
        trim: 0,
        bare: 0,
        brittle: 0,
    };
    for (oversize, udp) in [
        (Oversize::Fragment, Ok(0)),
        (Oversize::Truncate, Ok(0)),
        (Oversize::Drop, Err(Drop::Oversize)),
    ] {
        let endpoint = Endpoint {
            segmenter: 9,
            ..endpoint(1500, 32, oversize)
        };
        let fragments =
            |gso, protocol| Fit::of(&size(gso), protocol, &endpoint).map(|fit| fit.fragments);
        assert_eq!(fragments(1452, 17), udp);
        assert_eq!(fragments(1428, 17), Ok(1));
        assert_eq!(fragments(1452, 6), Ok(1), "TCP is cut smaller instead");
        assert_eq!(fragments(GSO_BY_FRAGS, 132), Ok(0));
    }
}
