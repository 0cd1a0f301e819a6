use serde::{Deserialize, Serialize};
use umbel_core::Rng;

use crate::{FILTERS, Funnel, HostView, Request, Stage, Weights};

/// How hosts are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    pub weights: Weights,
    /// The choice is random among this many best hosts, and all that weigh the same as the last of them. More than one
    /// makes sense with several conductors, which else all pick the same host from the same views.
    pub subset: usize,
    /// How many further hosts a choice names.
    pub alternates: usize,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler { weights: Weights::default(), subset: 1, alternates: 3 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index in the views.
    pub host: usize,
    /// Name of the pool for each disk of the request.
    pub pools: Vec<String>,
    /// The next best, best first; to be tried when the claim on `host` is refused.
    pub alternates: Vec<usize>,
    pub funnel: Funnel,
}

impl Scheduler {
    /// A host for the request, or the reason why there is none.
    pub fn choose(&self, hosts: &[HostView], request: &Request, rng: &dyn Rng) -> Result<Choice, Funnel> {
        let (mut candidates, funnel) = filter(hosts, request);
        if candidates.is_empty() {
            return Err(funnel);
        }
        self.weights.weigh(hosts, request, &mut candidates);
        let best = self.sort_best(&mut candidates);
        let picked = rng.below(best);
        candidates.swap(0, picked);
        let host = candidates[0].1 as usize;
        let alternates = candidates.iter().skip(1).take(self.alternates).map(|(_, at)| *at as usize).collect();
        Ok(Choice { host, pools: pools(&hosts[host], request), alternates, funnel })
    }

    /// Brings the best hosts to the front, best first, and says among how many of them chance decides.
    fn sort_best(&self, candidates: &mut [(f64, u32)]) -> usize {
        let subset = self.subset.clamp(1, candidates.len());
        let front = (subset + self.alternates).min(candidates.len());
        let by_weight = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if front < candidates.len() {
            candidates.select_nth_unstable_by(front, by_weight);
        }
        candidates[..front].sort_unstable_by(by_weight);
        let last = candidates[subset - 1].0;
        if candidates[front - 1].0.total_cmp(&last).is_lt() {
            return candidates[..front].iter().take_while(|(weight, _)| *weight >= last).count();
        }
        // Equal ones go on beyond the sorted front: bring them all next to it.
        let mut best = front;
        for at in front..candidates.len() {
            if candidates[at].0 >= last {
                candidates.swap(best, at);
                best += 1;
            }
        }
        best
    }
}

/// The hosts that pass all filters, with no weight yet.
fn filter(hosts: &[HostView], request: &Request) -> (Vec<(f64, u32)>, Funnel) {
    let mut candidates = Vec::with_capacity(hosts.len());
    let mut stopped = [0_usize; FILTERS.len()];
    // Host by host and not filter by filter: one walk through memory, and no list between the filters.
    for (at, host) in hosts.iter().enumerate() {
        match FILTERS.iter().position(|filter| !(filter.passes)(host, request)) {
            Some(filter) => stopped[filter] += 1,
            None => candidates.push((0.0, u32::try_from(at).unwrap_or(u32::MAX))),
        }
    }
    let mut left = hosts.len();
    let stages = FILTERS.iter().zip(stopped).map(|(filter, stopped)| {
        left -= stopped;
        Stage { filter: (filter.name)(request).into_owned(), left }
    });
    let funnel = Funnel { hosts: hosts.len(), stages: stages.collect() };
    (candidates, funnel)
}

fn pools(host: &HostView, request: &Request) -> Vec<String> {
    let mut pools = vec![String::new(); request.disks.len()];
    host.place(&request.disks, |disk, pool| pools[disk].clone_from(&host.pools[pool].name));
    pools
}
