use std::fmt;

use serde::{Deserialize, Serialize};

/// How many hosts each filter left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    pub hosts: usize,
    /// All filters in their order, also those that took nothing away.
    pub stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub filter: String,
    pub left: usize,
}

impl Funnel {
    /// Adds what another cell answered to the same request.
    pub fn add(&mut self, other: Funnel) {
        self.hosts += other.hosts;
        if self.stages.is_empty() {
            self.stages = other.stages;
            return;
        }
        for (stage, more) in self.stages.iter_mut().zip(other.stages) {
            stage.left += more.left;
        }
    }

    pub fn left(&self) -> usize {
        self.stages.last().map_or(self.hosts, |stage| stage.left)
    }

    /// Whether there are hosts that are not up, or none at all: then the answer may be another one soon.
    pub fn waits_for_hosts(&self) -> bool {
        self.hosts == 0 || self.stages.first().is_some_and(|up| up.left < self.hosts)
    }

    /// `1000 hosts -> 998 up -> 412 RAM -> 0 tier=ssd`: only what took hosts away, up to the last one.
    pub fn path(&self) -> String {
        let mut text = match self.hosts {
            1 => "1 host".to_owned(),
            hosts => format!("{hosts} hosts"),
        };
        let mut left = self.hosts;
        for stage in self.stages.iter().filter(|_| self.hosts > 0) {
            if stage.left < left {
                left = stage.left;
                text.push_str(&format!(" -> {left} {}", stage.filter));
            }
        }
        text
    }
}

/// The message of a server that found no host.
impl fmt::Display for Funnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left() {
            0 => write!(f, "No valid host was found. {}", self.path()),
            _ => f.write_str(&self.path()),
        }
    }
}
