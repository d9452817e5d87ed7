//! Windows: in which parts of the week the gangs of a queue may start, and run.
//!
//! Written as LSF's `DISPATCH_WINDOW` and `RUN_WINDOW`, and read by the clock of a time zone: a
//! window is open whenever that clock shows a time in it. So where an hour is left out its windows
//! are left out, and where one comes twice they come twice. Zones are those of the tz database that
//! is built in.

use super::WallTime;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Minutes of a week.
const WEEK: u16 = 7 * DAY;
const DAY: u16 = 24 * 60;
const MINUTE_MS: i64 = 60_000;

/// Windows that one list may name.
pub const WINDOWS_MAX: usize = 64;

/// The windows of a queue, by the clock of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    zone: TimeZone,
    /// When its gangs may run; `None`: always.
    pub run: Option<Week>,
    /// When its gangs may start; `None`: always.
    pub dispatch: Option<Week>,
}

/// Parts of a week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Week {
    /// minutes since the beginning of Sunday, the last excluded, ascending and apart
    spans: Vec<(u16, u16)>,
    text: String,
}

/// How windows stand at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The run window is open.
    pub runs: bool,
    /// The dispatch window is open.
    pub dispatches: bool,
    /// Nothing changes before this time; `None`: never.
    pub until: Option<WallTime>,
}

/// The zone of a name such as `Europe/Berlin`, whatever its case; `None`: it is unknown.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

impl Week {
    /// The windows of a list, each `begin-end` with times as `hour`, `hour:minute` or
    /// `day:hour:minute`; day 0 and 7 are Sunday. Without a day they are of every day, and one that
    /// ends before it begins goes on into the next.
    ///
    /// # Errors
    /// The position of the first that is none.
    pub fn parse(windows: &[&str]) -> Result<Self, usize> {
        let mut spans: Vec<(u16, u16)> = Vec::new();
        for (position, window) in windows.iter().enumerate() {
            let (begin, end, every_day) = ends(window).ok_or(position)?;
            let (days, period) = if every_day { (7, DAY) } else { (1, WEEK) };
            let end = if end < begin { end + period } else { end };
            for shift in (0..days).map(|day| day * DAY) {
                spans.push((begin + shift, (end + shift).min(WEEK)));
                spans.push((0, (end + shift).saturating_sub(WEEK)));
            }
        }
        spans.retain(|(begin, end)| begin < end);
        spans.sort_unstable();
        let mut apart: Vec<(u16, u16)> = Vec::new();
        for (begin, end) in spans {
            match apart.last_mut().filter(|(_, last)| *last >= begin) {
                Some((_, last)) => *last = end.max(*last),
                None => apart.push((begin, end)),
            }
        }
        Ok(Self { spans: apart, text: windows.join(" ") })
    }

    fn is_open(&self, minute: u16) -> bool {
        self.spans.iter().any(|(begin, end)| (*begin..*end).contains(&minute))
    }

    /// Minutes from the beginning of a minute to the next end of a window or of its absence.
    fn minutes_left(&self, minute: u16) -> u16 {
        let ends = self.spans.iter().flat_map(|(begin, end)| [*begin, *end % WEEK]);
        let left = ends.map(|end| (end + WEEK - minute - 1) % WEEK + 1);
        left.min().unwrap_or(WEEK)
    }
}

/// Begin and end in minutes of the week, or of a day where it is of every day.
fn ends(window: &str) -> Option<(u16, u16, bool)> {
    let (begin, end) = window.split_once('-')?;
    let time = |text: &str| -> Option<(usize, u16)> {
        let fields: Vec<u16> = text
            .split(':')
            .map(|field| {
                let digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
                field.parse().ok().filter(|_| digits && field.len() <= 2)
            })
            .collect::<Option<_>>()?;
        let (day, hour, minute) = match *fields {
            [hour] => (0, hour, 0),
            [hour, minute] => (0, hour, minute),
            [day, hour, minute] => (day, hour, minute),
            _ => return None,
        };
        let valid = day <= 7 && hour <= 23 && minute <= 59;
        valid.then_some((fields.len(), day % 7 * DAY + hour * 60 + minute))
    };
    let ((begin_fields, begin), (end_fields, end)) = (time(begin)?, time(end)?);
    let valid = begin_fields == end_fields && begin != end;
    valid.then_some((begin, end, begin_fields < 3))
}

impl Windows {
    /// Windows by the clock of a zone.
    #[must_use]
    pub fn new(zone: TimeZone, run: Option<Week>, dispatch: Option<Week>) -> Self {
        Self { zone, run, dispatch }
    }

    /// How they stand. O(windows).
    #[must_use]
    pub fn at(&self, now: WallTime) -> Opening {
        let weeks = || [&self.run, &self.dispatch].into_iter().flatten();
        let Ok(instant) = Timestamp::from_millisecond(now.0) else {
            return Opening { runs: true, dispatches: true, until: None };
        };
        let offset = i64::from(self.zone.to_offset(instant).seconds()) * 1000;
        let local = now.0.saturating_add(offset);
        // 1970 began on a Thursday
        let minutes = local.div_euclid(MINUTE_MS) + i64::from(4 * DAY);
        let minute = u16::try_from(minutes.rem_euclid(i64::from(WEEK))).unwrap_or(0);
        let is_open = |week: &Option<Week>| week.as_ref().is_none_or(|week| week.is_open(minute));
        let left = weeks().map(|week| week.minutes_left(minute)).min();
        let turn = left.map(|left| {
            let begun = now.0 - local.rem_euclid(MINUTE_MS);
            begun.saturating_add(i64::from(left) * MINUTE_MS)
        });
        // by then the clock may have been put forward or back
        let put = self.zone.following(instant).next().map(|put| put.timestamp().as_millisecond());
        let until = turn.map(|turn| WallTime(put.map_or(turn, |put| turn.min(put))));
        Opening { runs: is_open(&self.run), dispatches: is_open(&self.dispatch), until }
    }

    /// The run windows, for people.
    #[must_use]
    pub fn run_text(&self) -> String {
        self.text(&self.run)
    }

    /// The dispatch windows, for people.
    #[must_use]
    pub fn dispatch_text(&self) -> String {
        self.text(&self.dispatch)
    }

    fn text(&self, week: &Option<Week>) -> String {
        let windows = week.as_ref().map_or("", |week| &week.text);
        format!("{windows} {}", self.zone.iana_name().unwrap_or("UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(text: &str) -> WallTime {
        WallTime(text.parse::<Timestamp>().expect("a time").as_millisecond())
    }

    fn windows(name: &str, run: &[&str]) -> Windows {
        let week = Week::parse(run).expect("windows");
        Windows::new(zone(name).expect("a zone"), Some(week), None)
    }

    /// Whether they are open at a time, and when that may change.
    fn at(windows: &Windows, now: &str) -> (bool, String) {
        let opening = windows.at(wall(now));
        let until = opening.until.expect("an end");
        (opening.runs, Timestamp::from_millisecond(until.0).expect("a time").to_string())
    }

    #[test]
    fn windows_are_read_as_lsf_reads_them() {
        // 2026-07-05 is a Sunday; Berlin is two hours ahead
        let berlin = windows("europe/berlin", &["5:19:00-1:8:30", "20:00-8:30"]);
        let cases = [
            ("2026-07-05T12:00:00Z", true, "2026-07-06T06:30:00Z"),
            ("2026-07-06T06:29:59.999Z", true, "2026-07-06T06:30:00Z"),
            ("2026-07-06T06:30:00Z", false, "2026-07-06T18:00:00Z"),
            ("2026-07-06T18:00:00.001Z", true, "2026-07-07T06:30:00Z"),
            ("2026-07-10T16:59:00Z", false, "2026-07-10T17:00:00Z"),
        ];
        for (now, open, until) in cases {
            assert_eq!(at(&berlin, now), (open, until.to_owned()), "{now}");
        }
        let hours = windows("UTC", &["9-17"]);
        assert!(!at(&hours, "2026-07-06T17:00:00Z").0);
        assert!(at(&hours, "2026-07-06T16:59:00Z").0);
        let sunday = windows("UTC", &["7:0:00-0:1:00", "6:23:00-7:0:00"]);
        assert_eq!(at(&sunday, "2026-07-05T00:59:00Z"), (true, "2026-07-05T01:00:00Z".to_owned()));
        assert_eq!(at(&sunday, "2026-07-04T23:00:00Z"), (true, "2026-07-05T00:00:00Z".to_owned()));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        let wrong = [
            "",
            "-",
            "8",
            "8-",
            "24-1",
            "8:60-9:00",
            "8-9:00",
            "8:1:00-9:00",
            "8:1:00-9:1:00",
            "8:00-8:00",
            "1:8-2:9-3",
            "+8-9",
            "8:-9:",
            "1:2:3:4-5:6:7:8",
            "008-9",
            "a-b",
            "8 - 9",
        ];
        for text in wrong {
            assert_eq!(Week::parse(&["1-2", text]), Err(1), "{text}");
        }
        assert!(zone("Europe/Atlantis").is_none());
    }

    #[test]
    fn the_clock_of_the_zone_counts_when_it_is_put_forward_and_back() {
        // 2026-03-29 02:00 CET is 03:00 CEST, 2026-10-25 03:00 CEST is 02:00 CET
        let night = windows("Europe/Berlin", &["2:30-6:00"]);
        let put = "2026-03-29T01:00:00Z".to_owned();
        assert_eq!(at(&night, "2026-03-29T00:59:00Z"), (false, put));
        assert_eq!(at(&night, "2026-03-29T01:00:00Z"), (true, "2026-03-29T04:00:00Z".to_owned()));
        let early = windows("Europe/Berlin", &["0:00-2:30"]);
        let (closed, again) = at(&early, "2026-10-25T00:30:00Z");
        assert_eq!((closed, again.as_str()), (false, "2026-10-25T01:00:00Z"));
        assert_eq!(at(&early, &again), (true, "2026-10-25T01:30:00Z".to_owned()));
    }

    #[test]
    fn no_time_passes_a_change() {
        let zones = ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "UTC"];
        for name in zones {
            let windows = windows(name, &["5:19:00-1:8:30", "20:00-8:30", "3:12:00-3:12:05"]);
            let mut now = wall("2026-01-01T00:00:00Z");
            let end = wall("2027-01-01T00:00:00Z");
            while now < end {
                let opening = windows.at(now);
                let until = opening.until.expect("an end");
                assert!(until > now, "{name} {now:?}");
                let mut then = now;
                while then < until {
                    assert_eq!(windows.at(then).runs, opening.runs, "{name} {then:?}");
                    then.0 += 7 * MINUTE_MS;
                }
                assert_eq!(windows.at(WallTime(until.0 - 1)).runs, opening.runs, "{name}");
                now = until;
            }
        }
    }
}
