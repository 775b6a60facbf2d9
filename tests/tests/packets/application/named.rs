//! A filter with a server name, too: both hold.

use std::io::{Read as _, Write as _};

use anyhow::{Result, ensure};
use traffic_mirror_tests::lab::cgroup::Cgroup;
use traffic_mirror_tests::lab::hello::client_hello;

use super::laboratory::{BYTES, Lab, Role, config, end, filter};
use crate::edge::Attach;

#[test]
fn the_name_and_the_application_hold_together() -> Result<()> {
    for &attach in Attach::all()? {
        let [wanted, other] = ["pk-app", "pk-other"].map(|name| Cgroup::new(name, ".service"));
        let (wanted, other) = (wanted?, other?);
        let both = format!(
            "application = [{:?}]\nserver_name = [\"shop.example\"]",
            wanted.name()
        );
        let mut lab = Lab::new(&config(&[filter("both", &both)]), attach)?;
        let mut port = 7000;
        for role in [Role::Client, Role::Server] {
            for (cgroup, name, is_wanted) in [
                (&wanted, "shop.example", true),
                (&wanted, "other.example", false),
                (&other, "shop.example", false),
                (&wanted, "shop.example", true),
            ] {
                port += 1;
                let connection = lab.open(cgroup, role, 0, port)?;
                let client = connection[0].local_addr()?.port();
                let said = client_hello(name, 0);
                (&connection[0]).write_all(&said)?;
                let mut arrived = vec![0; said.len()];
                (&connection[1]).read_exact(&mut arrived)?;
                super::laboratory::say(&connection)?;
                end(connection)?;
                let (carried, counters) = lab.carried(port)?;
                let found = carried.get(&client).copied().unwrap_or_default();
                let is_right = if is_wanted {
                    found.is_whole() && found.bytes[0] >= BYTES + said.len()
                } else {
                    // the handshake, as nobody knows the name before
                    found.bytes == [0; 2] && found.copies() <= 3
                };
                ensure!(
                    is_right,
                    "{attach:?} {role:?} {} {name}: {found:?} {counters:?}",
                    cgroup.name()
                );
            }
        }
    }
    Ok(())
}
