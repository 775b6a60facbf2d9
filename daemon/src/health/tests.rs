use super::*;

/// An endpoint that is sampled each second.
struct Watched {
    health: Health,
    sample: Sample,
    now: Duration,
}

impl Watched {
    fn new() -> Self {
        let sample = Sample {
            way: ("192.0.2.10".parse().unwrap(), 6080, 7),
            mtu: 1500,
            sent: 0,
            held_up: 0,
            errors: [0; IcmpError::COUNT],
            path_mtu: None,
            output_drops: Some(0),
        };
        let mut watched = Self {
            health: Health::default(),
            sample,
            now: Duration::from_secs(1000),
        };
        assert_eq!(watched.second(0, &[]), []);
        watched
    }

    fn second(&mut self, sent: u64, errors: &[IcmpError]) -> Vec<HealthChange> {
        self.now += Duration::from_secs(1);
        self.sample.sent += sent;
        errors
            .iter()
            .for_each(|kind| self.sample.errors[*kind as usize] += 1);
        let samples = BTreeMap::from([("ids".to_owned(), self.sample.clone())]);
        self.health
            .look(samples, self.now)
            .into_iter()
            .map(|(_, change)| change)
            .collect()
    }
}

#[test]
fn a_closed_port_is_told_once_and_is_over_when_copies_stay_without_errors() {
    use IcmpError::PortClosed;
    let mut watched = Watched::new();
    assert_eq!(watched.second(9, &[]), []);
    assert_eq!(
        watched.second(9, &[PortClosed]),
        [HealthChange::Lost(Trouble::PortClosed)]
    );
    assert_eq!(watched.second(9, &[PortClosed]), []);
    assert_eq!(watched.second(9, &[]), []);
    assert_eq!(watched.second(9, &[PortClosed]), []);
    for _ in 0..100 {
        assert_eq!(
            watched.second(0, &[]),
            [],
            "without copies nothing is learned"
        );
    }
    assert_eq!(watched.health.troubles()["ids"], Trouble::PortClosed);
    assert_eq!(watched.second(1, &[]), []);
    assert_eq!(watched.second(1, &[]), []);
    assert_eq!(
        watched.second(1, &[]),
        [HealthChange::Recovered(Trouble::PortClosed)]
    );
    assert!(watched.health.troubles().is_empty());
}

#[test]
fn what_was_counted_before_the_first_look_is_the_past() {
    let mut watched = Watched::new();
    watched.sample.errors = [7; IcmpError::COUNT];
    watched.sample.output_drops = None;
    watched.health = Health::default();
    assert_eq!(watched.second(0, &[]), []);
    // drops are read only while copies are sent: earlier drops of the output do not matter
    watched.sample.output_drops = Some(1000);
    assert_eq!(watched.second(5, &[]), []);
    assert_eq!(watched.second(5, &[]), []);
    // another queue counts from zero
    watched.sample.output_drops = Some(3);
    assert_eq!(watched.second(5, &[]), []);
}

#[test]
fn drops_of_the_output_are_told_while_copies_go_there() {
    let mut watched = Watched::new();
    watched.sample.output_drops = Some(10);
    assert_eq!(watched.second(0, &[]), [], "somebody else's");
    watched.sample.output_drops = Some(20);
    assert_eq!(
        watched.second(3, &[]),
        [HealthChange::Lost(Trouble::OutputDrops)]
    );
    assert_eq!(watched.second(0, &[]), []);
    assert_eq!(watched.second(0, &[]), []);
    assert_eq!(
        watched.second(0, &[]),
        [HealthChange::Recovered(Trouble::OutputDrops)]
    );
}

#[test]
fn a_queue_that_holds_too_much_is_told_until_it_has_sent_some() {
    let mut watched = Watched::new();
    watched.sample.held_up = 5;
    assert_eq!(
        watched.second(0, &[]),
        [HealthChange::Lost(Trouble::Backlog)]
    );
    watched.sample.held_up = 6;
    watched.sample.output_drops = Some(1);
    assert_eq!(watched.second(1, &[]), [], "which is why the queue drops");
    for _ in 1..LOOKS_UNTIL_OVER {
        assert_eq!(watched.second(0, &[]), []);
    }
    assert_eq!(
        watched.second(0, &[]),
        [HealthChange::Recovered(Trouble::Backlog)]
    );
}

#[test]
fn an_error_is_told_though_the_output_drops() {
    let mut watched = Watched::new();
    for drops in 1..5 {
        watched.sample.output_drops = Some(drops);
        let told: &[HealthChange] = if drops == 1 {
            &[HealthChange::Lost(Trouble::OutputDrops)]
        } else {
            &[]
        };
        assert_eq!(watched.second(1, &[]), told);
    }
    watched.sample.output_drops = Some(9);
    assert_eq!(
        watched.second(1, &[IcmpError::PortClosed]),
        [HealthChange::Lost(Trouble::PortClosed)]
    );
    watched.sample.output_drops = Some(10);
    assert_eq!(watched.second(1, &[]), [], "and not the other way round");
}

#[test]
fn what_is_known_of_one_way_says_nothing_of_another() {
    let mut watched = Watched::new();
    watched.sample.path_mtu = Some((1400, watched.now));
    assert_eq!(
        watched
            .second(1, &[IcmpError::TooBig, IcmpError::PortClosed])
            .len(),
        2
    );
    watched.sample.way.0 = "192.0.2.11".parse().unwrap();
    watched.sample.path_mtu = None;
    assert_eq!(
        watched.second(1, &[]),
        [HealthChange::Left(Trouble::PortClosed)]
    );
    assert!(watched.health.troubles().is_empty() && watched.health.path_mtus().is_empty());
    assert_eq!(
        watched.second(1, &[IcmpError::PortClosed]),
        [HealthChange::Lost(Trouble::PortClosed)]
    );
    // no path at all any more
    let gone = watched.health.look(BTreeMap::new(), watched.now);
    assert_eq!(
        gone,
        [("ids".to_owned(), HealthChange::Left(Trouble::PortClosed))]
    );
}

#[test]
fn a_successor_knows_what_was_found_out() {
    let mut watched = Watched::new();
    let known = (
        watched.sample.clone(),
        Some(Trouble::PortClosed),
        Some(1400),
    );
    watched.health = Health::default();
    watched
        .health
        .resume(BTreeMap::from([("ids".to_owned(), known)]), watched.now);
    assert_eq!(watched.health.path_mtus()["ids"], 1400);
    assert_eq!(
        watched.second(1, &[IcmpError::PortClosed]),
        [],
        "told already"
    );
    assert_eq!(watched.health.troubles()["ids"], Trouble::PortClosed);
}

#[test]
fn a_smaller_way_is_followed_and_forgotten_after_ten_minutes() {
    let mut watched = Watched::new();
    watched.sample.path_mtu = Some((1400, watched.now));
    assert_eq!(
        watched.second(1, &[IcmpError::TooBig]),
        [HealthChange::PathMtu(1400)],
        "followed, so no trouble"
    );
    for _ in 1..UNKNOWN {
        assert_eq!(
            watched.second(1, &[IcmpError::TooBig]),
            [],
            "the programs do not know it yet"
        );
    }
    watched.sample.mtu = 1400;
    for _ in 0..IN_FLIGHT {
        assert_eq!(
            watched.second(1, &[IcmpError::TooBig]),
            [],
            "they were on their way"
        );
    }
    // what is no less than what is sent is not followed
    watched.sample.path_mtu = Some((1450, watched.now));
    for round in 0..2 {
        for _ in 0..STRAYS {
            let found = watched.second(1, &[IcmpError::TooBig]);
            assert_eq!(found, [], "of a copy that was sent late, {round}");
        }
        for _ in 0..STRAY_LIFE * (1 - round) {
            assert_eq!(watched.second(1, &[]), []);
        }
    }
    assert_eq!(watched.second(1, &[]), [], "a pause is no end");
    assert_eq!(
        watched.second(1, &[IcmpError::TooBig]),
        [HealthChange::Lost(Trouble::TooBig)],
        "they go on"
    );
    for errors in [&[][..], &[IcmpError::TooBig], &[IcmpError::TooBig], &[]] {
        assert_eq!(watched.second(1, errors), [], "and are not over");
    }
    assert_eq!(watched.health.path_mtus()["ids"], 1400);
    watched.sample.path_mtu = Some((1300, watched.now));
    assert_eq!(watched.second(0, &[]), [HealthChange::PathMtu(1300)]);
    watched.now += PATH_MTU_LIFE;
    assert_eq!(watched.second(0, &[]), [HealthChange::PathMtuForgotten]);
    assert!(watched.health.path_mtus().is_empty());
    assert_eq!(
        watched.second(0, &[]),
        [],
        "what is old is not learned again"
    );
}

#[test]
fn a_path_mtu_that_the_programs_never_come_to_know_hides_no_loss() {
    let mut watched = Watched::new();
    watched.sample.path_mtu = Some((1400, watched.now));
    assert_eq!(
        watched.second(1, &[IcmpError::TooBig]),
        [HealthChange::PathMtu(1400)]
    );
    let told =
        (0..UNKNOWN + IN_FLIGHT).position(|_| !watched.second(1, &[IcmpError::TooBig]).is_empty());
    assert_eq!(told, Some((UNKNOWN + IN_FLIGHT) as usize - 1));
    assert_eq!(watched.health.troubles()["ids"], Trouble::TooBig);
}
