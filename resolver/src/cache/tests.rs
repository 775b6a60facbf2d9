use std::net::Ipv4Addr;

use super::*;

const NOW: u64 = 1_764_511_200;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn a() -> Name {
    name("a.example")
}

fn cache() -> Cache {
    let mut cache = Cache::default();
    assert!(cache.want(&[a()].into()));
    cache
}

fn four(number: usize) -> IpAddr {
    Ipv4Addr::from(0x0a00_0001 + number as u32).into()
}

fn six(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// IPv4 addresses with a TTL of a minute, and no IPv6.
fn answered(addresses: impl IntoIterator<Item = IpAddr>) -> Answers {
    Answers {
        four: Ok(addresses.into_iter().map(|address| (address, 60)).collect()),
        six: Err(Failure::NoAddress),
    }
}

fn addresses(cache: &Cache) -> Vec<IpAddr> {
    cache
        .names()
        .addresses_of(&a())
        .map(|(address, _)| address)
        .collect()
}

fn until(cache: &Cache, address: IpAddr) -> u64 {
    cache.names().0[&a()].addresses[&address].until
}

#[test]
fn rotating_answers_accumulate() {
    let mut cache = cache();
    for turn in 0..10 {
        let answers = answered([four(turn), four(turn + 1)]);
        let change = cache.take(&a(), &answers, NOW + 60 * turn as u64);
        assert_eq!(change.added, if turn == 0 { 2 } else { 1 });
        assert_eq!(change.removed, 0);
    }
    assert_eq!(addresses(&cache).len(), 11);
}

#[test]
fn an_address_stays_an_hour_or_its_ttl() {
    for (ttl, stays) in [
        (0, 3600),
        (60, 3600),
        (3601, 3601),
        (86_400, 86_400),
        (u32::MAX, u64::from(LONGEST_TTL)),
    ] {
        let mut cache = cache();
        let first = Answers {
            four: Ok(vec![(four(0), ttl)]),
            six: Err(Failure::NoAddress),
        };
        cache.take(&a(), &first, NOW);
        assert_eq!(until(&cache, four(0)), NOW + stays);
        let other = answered([four(1)]);
        let change = cache.take(&a(), &other, NOW + stays - 1);
        assert_eq!((change.added, change.removed), (1, 0), "TTL {ttl}");
        let change = cache.take(&a(), &other, NOW + stays);
        assert_eq!((change.added, change.removed), (0, 1), "TTL {ttl}");
        assert_eq!(addresses(&cache), [four(1)]);
    }
}

#[test]
fn an_answer_with_a_lower_ttl_shortens_nothing() {
    let mut cache = cache();
    let long = Answers {
        four: Ok(vec![(four(0), 86_400)]),
        six: Err(Failure::NoAddress),
    };
    cache.take(&a(), &long, NOW);
    cache.take(&a(), &answered([four(0)]), NOW + 60);
    assert_eq!(until(&cache, four(0)), NOW + 86_400);
}

#[test]
fn an_outage_removes_nothing_however_long_it_lasts() {
    for failure in [
        Failure::Timeout,
        Failure::Unreachable,
        Failure::ServerFailure,
        Failure::Refused,
        Failure::Malformed,
        Failure::AliasLoop,
        Failure::Dnssec,
    ] {
        let mut cache = cache();
        cache.take(&a(), &answered([four(0)]), NOW);
        let change = cache.take(&a(), &Answers::failed(failure), NOW + 60);
        assert_eq!((change.failed, change.removed), (Some(failure), 0));
        assert!(change.is_urgent());
        let change = cache.take(&a(), &Answers::failed(failure), NOW + 1_000_000);
        assert_eq!((change.failed, change.removed), (None, 0));
        assert!(!change.is_urgent());
        let known = &cache.names().0[&a()];
        assert_eq!(known.failing.unwrap().since, NOW + 60);
        assert_eq!(known.answered, Some(NOW));

        let change = cache.take(&a(), &answered([four(1)]), NOW + 1_000_001);
        assert!(change.recovered);
        assert_eq!((change.added, change.removed), (1, 1));
    }
}

#[test]
fn a_name_that_is_gone_keeps_its_addresses_for_their_hour() {
    for failure in [Failure::NoSuchName, Failure::NoAddress] {
        let mut cache = cache();
        cache.take(&a(), &answered([four(0)]), NOW);
        let gone = Answers::failed(failure);
        let change = cache.take(&a(), &gone, NOW + STAYS - 1);
        assert_eq!((change.failed, change.removed), (Some(failure), 0));
        assert_eq!(cache.take(&a(), &gone, NOW + STAYS).removed, 1);
        assert!(addresses(&cache).is_empty());
    }
}

#[test]
fn each_family_stands_for_itself() {
    let mut cache = cache();
    let both = Answers {
        four: Ok(vec![(four(0), 60)]),
        six: Ok(vec![(six("2001:db8::1"), 60)]),
    };
    assert_eq!(cache.take(&a(), &both, NOW).added, 2);
    // the other family is unknown, so it stays, and that is told
    let half = Answers {
        four: Ok(vec![(four(1), 60)]),
        six: Err(Failure::ServerFailure),
    };
    let change = cache.take(&a(), &half, NOW + STAYS);
    assert_eq!((change.added, change.removed), (1, 1));
    assert_eq!(change.failed, Some(Failure::ServerFailure));
    assert_eq!(addresses(&cache), [four(1), six("2001:db8::1")]);
    // the name has no IPv6 any more
    let change = cache.take(&a(), &answered([four(1)]), NOW + STAYS + 60);
    assert_eq!((change.removed, change.recovered), (1, true));
    assert_eq!(addresses(&cache), [four(1)]);
}

#[test]
fn a_thousand_addresses_and_no_more() {
    let mut cache = cache();
    let change = cache.take(&a(), &answered((0..5000).map(four)), NOW);
    assert_eq!((change.added, change.overflowed), (1000, Some(4000)));
    // the same answer in another order changes nothing
    let change = cache.take(&a(), &answered((0..5000).rev().map(four)), NOW + 60);
    assert_eq!((change.added, change.removed), (0, 0));
    assert_eq!((change.overflowed, change.fits), (None, false));
    assert!(!change.is_urgent());
    // newer ones take the room of older ones
    let change = cache.take(&a(), &answered((5000..5010).map(four)), NOW + 120);
    assert_eq!((change.added, change.removed, change.fits), (10, 10, true));
    assert_eq!(addresses(&cache).len(), 1000);
    assert!((5000..5010).all(|n| addresses(&cache).contains(&four(n))));
}

#[test]
fn known_addresses_keep_their_room_while_they_are_answered() {
    let mut cache = cache();
    cache.take(&a(), &answered((4000..5000).map(four)), NOW);
    let change = cache.take(&a(), &answered((0..5000).map(four)), NOW + 60);
    assert_eq!((change.added, change.removed), (0, 0));
    assert_eq!(change.overflowed, Some(4000));
    assert_eq!(addresses(&cache)[0], four(4000));
}

#[test]
fn all_names_share_the_room() {
    let mut cache = Cache::default();
    let names: Vec<Name> = (0..101).map(|n| name(&format!("n{n}.example"))).collect();
    cache.want(&names.iter().cloned().collect());
    let answers = answered((0..1000).map(four));
    for name in &names[..100] {
        assert_eq!(cache.take(name, &answers, NOW).added, 1000);
    }
    let change = cache.take(&names[100], &answers, NOW);
    assert_eq!((change.added, change.overflowed), (0, Some(1000)));
    assert_eq!(cache.names().count(), MOST_IN_ALL);
    // its own room is still a name's own
    assert!(!cache.take(&names[0], &answers, NOW + 60).is_urgent());
    assert!(Names::parse(&cache.names().render()).is_ok());
}

#[test]
fn addresses_of_no_host_are_left_out() {
    let mut cache = cache();
    let blocked = Answers {
        four: Ok(vec![(six("0.0.0.0"), 60), (four(0), 60)]),
        six: Ok(vec![(six("::"), 60), (six("::ffff:10.0.0.1"), 60)]),
    };
    assert_eq!(cache.take(&a(), &blocked, NOW).added, 1);
    assert_eq!(addresses(&cache), [four(0)]);
}

#[test]
fn names_come_and_go() {
    let mut cache = cache();
    cache.take(&a(), &answered([four(0)]), NOW);
    assert!(!cache.want(&[a()].into()));
    assert!(cache.want(&[a(), name("b.example")].into()));
    assert_eq!(addresses(&cache), [four(0)]);
    assert!(cache.want(&[name("b.example")].into()));
    assert!(addresses(&cache).is_empty());
    // an answer to a question of before
    let change = cache.take(&a(), &answered([four(0)]), NOW);
    assert_eq!(change, Change::default());
    assert_eq!(cache.names().0.len(), 1);
    assert!(cache.want(&BTreeSet::new()));
}

#[test]
fn what_was_known_outlives_the_process_and_a_clock_that_is_set_back() {
    let mut cache = cache();
    cache.take(&a(), &answered([four(0)]), NOW);
    cache.take(&a(), &Answers::failed(Failure::Timeout), NOW + 60);
    let text = cache.names().render();

    let mut later = Cache::new(Names::parse(&text).unwrap(), NOW + 100);
    assert!(!later.want(&[a()].into()));
    assert_eq!(until(&later, four(0)), NOW + STAYS);
    assert!(later.take(&a(), &answered([four(0)]), NOW + 120).recovered);

    let past = NOW - 10_000_000;
    let earlier = Cache::new(Names::parse(&text).unwrap(), past);
    let known = &earlier.names().0[&a()];
    assert_eq!(known.answered, Some(past));
    assert_eq!(known.failing.unwrap().since, past);
    assert_eq!(known.addresses[&four(0)].answered, past);
    assert_eq!(until(&earlier, four(0)), past + u64::from(LONGEST_TTL));
}

#[test]
fn an_address_does_not_stay_for_ever_if_the_clock_is_set_back() {
    let mut cache = cache();
    cache.take(&a(), &answered([four(0)]), NOW);
    let past = NOW - 10_000_000;
    cache.take(&a(), &answered([four(1)]), past);
    let end = past + u64::from(LONGEST_TTL);
    assert_eq!(until(&cache, four(0)), end);
    assert_eq!(cache.take(&a(), &answered([four(1)]), end).removed, 1);
}

#[test]
fn the_lowest_ttl_counts() {
    let mut answers = answered([four(0)]);
    assert_eq!(answers.ttl(), Some(60));
    answers.six = Ok(vec![(six("2001:db8::1"), 5), (six("2001:db8::2"), 70)]);
    assert_eq!(answers.ttl(), Some(5));
    assert_eq!(Answers::failed(Failure::Timeout).ttl(), None);
}
