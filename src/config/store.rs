//! `[store]`: how what was written is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use super::etcd::{Backend, read_backend};
use super::reader::Section;

/// How often a snapshot is taken unless the file says otherwise.
pub const DEFAULT_SNAPSHOT_PERIOD: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    pub backend: Backend,
    /// How often a snapshot is taken beside the database, if anything was written since.
    pub snapshot_period: Duration,
}

pub(super) fn read_store(
    section: &mut Section,
    lines: &mut BTreeMap<&'static str, usize>,
) -> Store {
    let backend = read_backend(section, lines);
    let snapshot_period = read_snapshot_period(section);
    section.finish();
    Store {
        backend,
        snapshot_period,
    }
}

fn read_snapshot_period(section: &mut Section) -> Duration {
    let Some(at) = section.text("snapshot_period") else {
        return DEFAULT_SNAPSHOT_PERIOD;
    };
    let wanted = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
    let problem = match humantime::parse_duration(&at.value) {
        Ok(period) if wanted.contains(&period) => return period,
        Ok(_) => format!("{} is not between 1s and 7d", at.value),
        Err(error) => format!(
            "`{}` does not parse: {error}; write it like 1h or 90m",
            at.value
        ),
    };
    section.report(at.line, "snapshot_period", problem);
    DEFAULT_SNAPSHOT_PERIOD
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_snapshot_period_is_an_hour_or_what_the_file_says_within_bounds() {
        let read = |text: &str| {
            let (config, problems) = crate::config::read(text, None);
            let problems: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
            (config.store.snapshot_period.as_secs(), problems.join("\n"))
        };
        assert_eq!(read("").0, 3600);
        assert_eq!(read("[store]\nsnapshot_period = \"90s\"\n").0, 90);
        for (text, said) in [
            ("\"0s\"", "0s is not between 1s and 7d"),
            ("\"8d\"", "8d is not between 1s and 7d"),
            ("\"often\"", "`often` does not parse"),
        ] {
            let (_, problems) = read(&format!("[store]\nsnapshot_period = {text}\n"));
            assert!(problems.contains(said), "{problems}");
        }
    }
}
