//! Times for people; JSON and metrics have seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A time of this host's time zone, with its offset (RFC 3339), from seconds since 1970.
pub fn local(seconds: u64) -> String {
    let time = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: any bytes are valid for the structure, which `localtime_r` fills in; it keeps no
    // pointer to it. Nothing in this program changes the environment, where TZ is.
    let (done, broken_down) = unsafe {
        let mut broken_down: libc::tm = std::mem::zeroed();
        let done = libc::localtime_r(&raw const time, &raw mut broken_down);
        (!done.is_null(), broken_down)
    };
    if !done {
        // beyond the years that an int can count
        return format!("{seconds} s after 1970");
    }
    let date = [
        broken_down.tm_year + 1900,
        broken_down.tm_mon + 1,
        broken_down.tm_mday,
        broken_down.tm_hour,
        broken_down.tm_min,
        broken_down.tm_sec,
    ];
    rendered(date, broken_down.tm_gmtoff)
}

/// `offset` is in seconds, east of Greenwich positive.
fn rendered([year, month, day, hour, minute, second]: [i32; 6], offset: libc::c_long) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.unsigned_abs() / 60;
    format!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{sign}{:02}:{:02}",
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_offset() {
        let date = [2026, 3, 9, 7, 5, 4];
        for (offset, shown) in [
            (0, "2026-03-09T07:05:04+00:00"),
            (19_800, "2026-03-09T07:05:04+05:30"),
            (-12_600, "2026-03-09T07:05:04-03:30"),
        ] {
            assert_eq!(rendered(date, offset), shown);
        }
        assert_eq!(local(u64::MAX), "18446744073709551615 s after 1970");
    }
}
