use super::*;
use crate::ask::fake::{A, AAAA, Asked, CNAME, NXDOMAIN, QUESTION, REFUSED, Reply, SERVFAIL};

const ID: u16 = 0x1234;

fn target(text: &str) -> Target {
    Target::vec_from_str(text).unwrap()
}

fn question() -> Question {
    Question::new(ID, &target("www.example"), Family::Four)
}

/// An answer to that question.
fn reply() -> Reply {
    Asked::about(ID, "www.example", A).reply()
}

fn read(reply: &Reply) -> Option<Result<Reading, Failure>> {
    question().read(&reply.bytes())
}

fn addresses(list: &[(&str, u32)]) -> Option<Result<Reading, Failure>> {
    let list = list
        .iter()
        .map(|(address, ttl)| (address.parse().unwrap(), *ttl));
    Some(Ok(Reading::Addresses(list.collect())))
}

#[test]
fn the_question_is_that_of_rfc_1035() {
    let expected =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";
    assert_eq!(question().bytes, expected);
    let six = Question::new(ID, &target("www.example"), Family::Six);
    assert_eq!(six.bytes[expected.len() - 4..], [0, 28, 0, 1]);
}

#[test]
fn addresses_with_their_ttl() {
    let two = reply()
        .address(QUESTION, 60, "192.0.2.1")
        .address("WWW.example", 7, "192.0.2.2");
    assert_eq!(
        read(&two),
        addresses(&[("192.0.2.1", 60), ("192.0.2.2", 7)])
    );
    // the highest bit counts as 0 (RFC 2181 section 8)
    let odd = reply().address(QUESTION, 0x8000_0001, "192.0.2.1");
    assert_eq!(read(&odd), addresses(&[("192.0.2.1", 0)]));
}

#[test]
fn ipv6_addresses() {
    let six = Question::new(ID, &target("www.example"), Family::Six);
    let reply = Asked::about(ID, "www.example", AAAA).reply();
    let reply = reply.address(QUESTION, 60, "2001:db8::1");
    assert_eq!(six.read(&reply.bytes()), addresses(&[("2001:db8::1", 60)]));
    // of another question
    assert_eq!(question().read(&reply.bytes()), None);
}

#[test]
fn aliases_are_followed_in_any_order_and_their_ttl_counts() {
    let chain = reply()
        .address("c.example", 60, "192.0.2.1")
        .alias("b.example", 5, "c.example")
        .alias(QUESTION, 300, "B.example");
    assert_eq!(read(&chain), addresses(&[("192.0.2.1", 5)]));
}

#[test]
fn records_of_other_names_and_classes_are_not_ours() {
    let others = reply()
        .address("evil.example", 60, "192.0.2.66")
        .record(QUESTION, A, 3, &[192, 0, 2, 67])
        .record(QUESTION, 16, 1, b"\x04text")
        .address(QUESTION, 60, "192.0.2.1");
    assert_eq!(read(&others), addresses(&[("192.0.2.1", 60)]));
    let others = reply().address("evil.example", 60, "192.0.2.66");
    assert_eq!(read(&others), Some(Err(Failure::NoAddress)));
}

#[test]
fn a_circle_of_aliases_ends() {
    let circle = reply()
        .alias(QUESTION, 60, "b.example")
        .alias("b.example", 60, "www.example");
    assert_eq!(read(&circle), Some(Err(Failure::AliasLoop)));
    let itself = reply().alias(QUESTION, 60, QUESTION);
    assert_eq!(read(&itself), Some(Err(Failure::AliasLoop)));
}

#[test]
fn sixteen_aliases_are_followed_and_no_more() {
    let chain = |aliases: u32| {
        let mut chain = reply().alias(QUESTION, 60, "n1.example");
        for n in 1..aliases {
            chain = chain.alias(&format!("n{n}.example"), 60, &format!("n{}.example", n + 1));
        }
        chain.address(&format!("n{aliases}.example"), 60, "192.0.2.1")
    };
    assert_eq!(read(&chain(MOST_ALIASES)), addresses(&[("192.0.2.1", 60)]));
    assert_eq!(
        read(&chain(MOST_ALIASES + 1)),
        Some(Err(Failure::AliasLoop))
    );
}

#[test]
fn a_chain_without_an_end_leads_on_unless_there_is_none() {
    let open = reply()
        .alias(QUESTION, 60, "b.example")
        .alias("b.example", 50, "c.example");
    let (to, ttl, count) = (target("c.example"), 50, 2);
    assert_eq!(read(&open), Some(Ok(Reading::Alias { to, ttl, count })));
    assert_eq!(read(&open.no_data()), Some(Err(Failure::NoAddress)));
    assert_eq!(read(&reply()), Some(Err(Failure::NoAddress)));
    assert_eq!(read(&reply().no_data()), Some(Err(Failure::NoAddress)));
}

#[test]
fn errors_have_their_reasons_with_and_without_the_question() {
    for (code, failure) in [
        (NXDOMAIN, Failure::NoSuchName),
        (SERVFAIL, Failure::ServerFailure),
        (REFUSED, Failure::Refused),
        (1, Failure::ServerFailure),
        (4, Failure::ServerFailure),
        (15, Failure::ServerFailure),
    ] {
        let mut reply = reply().code(code);
        assert_eq!(read(&reply), Some(Err(failure)));
        reply.has_question = false;
        assert_eq!(read(&reply), Some(Err(failure)));
    }
    let mut bare = reply();
    bare.has_question = false;
    assert_eq!(read(&bare), None);
}

#[test]
fn what_answers_another_question_is_no_answer() {
    let good = reply().address(QUESTION, 60, "192.0.2.1");
    let with = |change: fn(&mut Reply)| {
        let mut reply = good.clone();
        change(&mut reply);
        read(&reply)
    };
    assert_eq!(with(|reply| reply.id ^= 1), None);
    assert_eq!(with(|reply| reply.name = "ww.example".to_owned()), None);
    assert_eq!(with(|reply| reply.kind = CNAME), None);
    // a question, and a notification
    assert_eq!(with(|reply| reply.flags &= 0x7fff), None);
    assert_eq!(with(|reply| reply.flags |= 4 << 11), None);
    // capital letters are the same name
    assert!(
        with(|reply| reply.name = "WwW.eXample".to_owned())
            .unwrap()
            .is_ok()
    );
}

#[test]
fn a_truncated_answer_says_so() {
    let short = reply().address(QUESTION, 60, "192.0.2.1").truncated();
    assert_eq!(read(&short), Some(Ok(Reading::Truncated)));
}

#[test]
fn a_record_that_lies_about_its_length_is_malformed() {
    let short = reply().record(QUESTION, A, 1, &[192, 0, 2]);
    assert_eq!(read(&short), Some(Err(Failure::Malformed)));
    let mut cut = reply().address(QUESTION, 60, "192.0.2.1").bytes();
    cut.pop();
    assert_eq!(question().read(&cut), Some(Err(Failure::Malformed)));
    // pointers that lead forward, and to themselves
    for pointer in [[0xc0, 0xff], [0xc0, 41]] {
        let wrong = reply().record(QUESTION, CNAME, 1, &pointer);
        assert_eq!(read(&wrong), Some(Err(Failure::Malformed)));
    }
}

/// A generator whose sequence is the same in each run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn any_bytes_may_come() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let six = Question::new(ID, &target("www.example"), Family::Six);
    let seeds = [
        reply()
            .address(QUESTION, 60, "192.0.2.1")
            .address(QUESTION, 60, "192.0.2.2")
            .bytes(),
        reply()
            .alias(QUESTION, 60, "b.example")
            .alias("b.example", 60, "c.example")
            .no_data()
            .bytes(),
        reply()
            .alias(QUESTION, 60, QUESTION)
            .address("x.example", 60, "2001:db8::1")
            .bytes(),
        reply().code(NXDOMAIN).no_data().bytes(),
    ];
    let (mut answers, mut addresses) = (0, 0);
    for turn in 0..200_000 {
        let mut bytes = seeds[turn % seeds.len()].clone();
        for _ in 0..1 + numbers.next(4) {
            let at = numbers.next(bytes.len());
            match numbers.next(4) {
                0 => bytes[at] = numbers.next(256) as u8,
                1 => bytes[at] ^= 1 << numbers.next(8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, [0, 12, 0xc0, 0xff][numbers.next(4)]),
            }
        }
        if let Some(answer) = question().read(&bytes) {
            answers += 1;
            if let Ok(Reading::Addresses(list)) = answer {
                addresses += 1;
                assert!(!list.is_empty() && list.len() <= bytes.len());
            }
        }
        let _ = six.read(&bytes);
        let random: Vec<u8> = (0..numbers.next(64))
            .map(|_| numbers.next(256) as u8)
            .collect();
        assert_eq!(question().read(&random), None);
    }
    // most were read as answers, so that the parser met what is behind the header
    assert!(
        answers > 50_000 && addresses > 2_000,
        "{answers}, {addresses}"
    );
}

#[test]
fn the_dearest_message_is_read_in_time() {
    // as many aliases as a message by TCP has room for, each to the next one, backwards
    let mut long = reply();
    for n in (0..2000).rev() {
        long = long.alias(&format!("n{n}.example"), 60, &format!("n{}.example", n + 1));
    }
    let long = long.alias(QUESTION, 60, "n0.example").bytes();
    assert!(long.len() > 60_000);
    let begin = std::time::Instant::now();
    assert_eq!(question().read(&long), Some(Err(Failure::AliasLoop)));
    assert!(begin.elapsed() < std::time::Duration::from_secs(5));
}
