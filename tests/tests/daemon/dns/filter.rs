//! Names in `source` and `destination`.

use anyhow::Result;
use std::fs;

use super::{config, resolve, start};
use crate::site::Site;

#[test]
fn a_name_matches_by_its_addresses() -> Result<()> {
    let mut site = Site::new()?;
    let mut daemon = start(&site, &config("destination", "\"edge.example\""))?;
    let wanted = fs::read_to_string(daemon.wanted_names_path())?;
    assert!(wanted.ends_with("\nedge.example\n"), "{wanted:?}");
    site.expect(4000, 0)?;
    resolve(&daemon, &[("edge.example", &["10.0.0.254"])])?;
    site.expect(4000, 1)?;
    resolve(&daemon, &[("edge.example", &["10.0.0.253"])])?;
    site.expect(4000, 0)?;
    site.stops(&mut daemon)?;
    assert!(!daemon.wanted_names_path().exists());
    Ok(())
}
