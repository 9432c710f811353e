//! Times as a person reads them: in the machine's own time zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// `14:03` for today, `2024-05-01 14:03` for another day.
pub(crate) fn time(millis: u64) -> String {
    shown(millis, &Zoned::now())
}

fn shown(millis: u64, now: &Zoned) -> String {
    let at = zoned(millis, now.time_zone());
    match at {
        Some(at) if at.date() == now.date() => at.strftime("%H:%M").to_string(),
        Some(at) => at.strftime("%Y-%m-%d %H:%M").to_string(),
        None => millis.to_string(),
    }
}

fn zoned(millis: u64, zone: &TimeZone) -> Option<Zoned> {
    let at = Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()?;
    Some(at.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_has_no_date_and_what_is_no_time_is_shown_as_it_is() {
        let now: Zoned = "2024-05-01T14:03:00[Asia/Seoul]".parse().unwrap();
        let millis = u64::try_from(now.timestamp().as_millisecond()).unwrap();
        assert_eq!(shown(millis, &now), "14:03");
        assert_eq!(shown(millis - 15 * 3_600_000, &now), "2024-04-30 23:03");
        assert_eq!(shown(u64::MAX, &now), u64::MAX.to_string());
    }
}
