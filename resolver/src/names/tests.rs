use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn times(answered: u64) -> Times {
    Times {
        answered,
        until: answered + 3600,
    }
}

fn known(addresses: impl IntoIterator<Item = IpAddr>) -> Known {
    Known {
        answered: Some(1_764_511_200),
        addresses: addresses
            .into_iter()
            .map(|a| (a, times(1_764_511_200)))
            .collect(),
        ..Known::default()
    }
}

/// The IPv4 address of a number.
fn four(number: usize) -> IpAddr {
    std::net::Ipv4Addr::from(0x0a00_0001 + number as u32).into()
}

const ALL: [Failure; 9] = [
    Failure::NoSuchName,
    Failure::NoAddress,
    Failure::Timeout,
    Failure::Unreachable,
    Failure::ServerFailure,
    Failure::Refused,
    Failure::Malformed,
    Failure::AliasLoop,
    Failure::Dnssec,
];

#[test]
fn what_is_written_is_read() {
    let mut names = Names::default();
    let both = ["192.0.2.7", "2001:db8::7"].map(|a| a.parse().unwrap());
    names.0.insert(name("api.example.com"), known(both));
    names.0.insert(name("new.example.com"), Known::default());
    for (index, reason) in ALL.into_iter().enumerate() {
        let failing = Known {
            failing: Some(Failing { since: 7, reason }),
            omitted: index as u32,
            ..known([four(index)])
        };
        names
            .0
            .insert(name(&format!("failing{index}.example")), failing);
    }
    assert_eq!(Names::parse(&names.render()), Ok(names));
    assert_eq!(
        Names::parse(&Names::default().render()),
        Ok(Names::default())
    );
}

#[test]
fn the_file_is_readable_for_people() {
    let names = Names([(name("a.example"), known([four(0)]))].into());
    let expected = r#"# Written by traffic-mirror-resolver. Times are seconds since 1970.
version = 1

[names."a.example"]
answered = 1764511200
addresses = [
  { address = "10.0.0.1", answered = 1764511200, until = 1764514800 },
]
"#;
    assert_eq!(names.render(), expected);
}

#[test]
fn addresses_and_names_lead_to_each_other() {
    let names = Names(
        [
            (name("a.example"), known([four(0), four(1)])),
            (name("b.example"), known([four(1)])),
        ]
        .into(),
    );
    let of = |n: &str| {
        names
            .addresses_of(&name(n))
            .map(|(a, _)| a)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("a.example"), [four(0), four(1)]);
    assert!(of("c.example").is_empty());
    let by = |a| {
        names
            .names_of(a)
            .map(|(n, _)| n.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(by(four(1)), ["a.example", "b.example"]);
    assert_eq!(by(four(2)), [] as [&str; 0]);
}

fn with(line: &str) -> String {
    format!("version = 1\n[names.\"a.example\"]\naddresses = [{line}]\n")
}

#[test]
fn what_the_resolver_does_not_write_is_rejected() {
    let parse = |text: &str| Names::parse(text).unwrap_err();
    assert_eq!(parse("version = 2\n"), NamesError::Version(2));
    for text in [
        "",
        "version = 1\n[names.\"*.example\"]\naddresses = []\n",
        "version = 1\nnames = 3\n",
        &with(r#"{ address = "10.0.0.0/8", answered = 1, until = 2 }"#),
        &with(r#"{ address = "10.0.0.1", answered = -1, until = 2 }"#),
        &with(r#"{ address = "10.0.0.1" }"#),
        "version = 1\n[names.\"a.example\"]\nfailing = { since = 1, reason = \"bored\" }\n",
    ] {
        assert!(matches!(parse(text), NamesError::Syntax(_)), "{text}");
    }
    for address in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "ff02::1",
        "::ffff:10.0.0.1",
    ] {
        let text = with(&format!(
            r#"{{ address = "{address}", answered = 1, until = 2 }}"#
        ));
        assert_eq!(parse(&text), NamesError::Address(address.parse().unwrap()));
    }
}

#[test]
fn all_has_its_bounds() {
    let parse = |names: &Names| Names::parse(&names.render()).map(|names| names.count());
    let one = |count| Names([(name("a.example"), known((0..count).map(four)))].into());
    assert_eq!(parse(&one(MOST_ADDRESSES)), Ok(MOST_ADDRESSES));
    let too_many = NamesError::TooMany("addresses of a name", MOST_ADDRESSES);
    assert_eq!(parse(&one(MOST_ADDRESSES + 1)), Err(too_many));

    let many = |count, each| {
        let names =
            (0..count).map(|n| (name(&format!("n{n}.example")), known((0..each).map(four))));
        Names(names.collect())
    };
    assert_eq!(parse(&many(100, 1000)), Ok(MOST_IN_ALL));
    let too_many = NamesError::TooMany("addresses", MOST_IN_ALL);
    assert_eq!(parse(&many(101, 1000)), Err(too_many));
    assert_eq!(parse(&many(MOST_NAMES, 0)), Ok(0));
    let too_many = NamesError::TooMany("names", MOST_NAMES);
    assert_eq!(parse(&many(MOST_NAMES + 1, 0)), Err(too_many));

    let text = format!("version = 1\n{}", "\n".repeat(MOST_BYTES));
    let too_many = NamesError::TooMany("bytes", MOST_BYTES);
    assert_eq!(Names::parse(&text), Err(too_many));
}

#[test]
fn the_largest_file_fits_its_bound() {
    let long = |n: usize| name(&format!("{}.n{n}", vec!["a".repeat(60); 4].join(".")));
    let six = |n: usize| std::net::Ipv6Addr::from(u128::MAX / 16 * 2 - 1 - n as u128).into();
    let of = |n| match n < MOST_IN_ALL / MOST_ADDRESSES {
        true => known((0..MOST_ADDRESSES).map(six)),
        false => Known::default(),
    };
    let names = Names((0..MOST_NAMES).map(|n| (long(n), of(n))).collect());
    assert_eq!(names.count(), MOST_IN_ALL);
    let text = names.render();
    assert!(text.len() <= MOST_BYTES, "{}", text.len());
    assert_eq!(Names::parse(&text), Ok(names));
}
