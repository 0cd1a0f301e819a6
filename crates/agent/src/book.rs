//! What the agent knows of each server, and what is next to do for it. No IO: decisions only.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;
use umbel_bus::{Desired, Observed, Power, Want};
use umbel_core::{Generation, Timestamp};
use uuid::Uuid;

#[derive(Default)]
pub(crate) struct Book {
    slots: HashMap<Uuid, Slot>,
}

struct Slot {
    desired: Option<Desired>,
    /// What was last made of it.
    known: Observed,
    /// Whether `known` is the end of a failed attempt, so that the same document is worth another one.
    failed: bool,
    /// The guest may have changed.
    look: bool,
    /// The conductor asked again: answer, even if nothing changed.
    tell: bool,
    working: bool,
    /// Ends the work in progress early, where that is safe.
    cancel: CancellationToken,
    /// Since when nothing of the server is left here. Kept for a while against documents that come late.
    gone_since: Option<Timestamp>,
}

/// What to do next for one server.
#[derive(Debug)]
pub(crate) enum Job {
    Converge(Box<Desired>, CancellationToken),
    /// Look what the guest does, and tell; if `always`, also when nothing changed.
    Look {
        always: bool,
    },
}

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub power: Option<Power>,
    /// `None`: it could not be told, so nothing changed.
    pub volumes: Option<Vec<Uuid>>,
}

impl Slot {
    fn new(server_id: Uuid) -> Self {
        Slot {
            desired: None,
            known: nothing_known(server_id),
            failed: false,
            look: true,
            tell: false,
            working: false,
            cancel: CancellationToken::new(),
            gone_since: None,
        }
    }

    fn reached(&self) -> Generation {
        match self.failed {
            true => Generation(0),
            false => self.known.generation,
        }
    }

    /// Whether there is something to do and nobody does it.
    fn is_idle_with_work(&self) -> bool {
        let behind = self.desired.as_ref().is_some_and(|desired| desired.generation > self.reached());
        !self.working && (behind || self.look || self.tell)
    }
}

fn nothing_known(server_id: Uuid) -> Observed {
    Observed {
        server_id,
        generation: Generation(0),
        present: false,
        power: None,
        volumes: Vec::new(),
        fault: None,
        steps: Vec::new(),
    }
}

impl Book {
    /// Takes a document in. True if there is work that nobody does yet.
    pub fn accept(&mut self, desired: Desired) -> bool {
        let slot = self.slots.entry(desired.server_id).or_insert_with(|| Slot::new(desired.server_id));
        if slot.desired.as_ref().is_some_and(|have| have.generation > desired.generation) {
            return false;
        }
        if slot.known.generation > desired.generation {
            // Late, after what it asked for was overtaken: a server that is gone must not rise again.
            return false;
        }
        if desired.is_reached() && slot.reached() < desired.generation {
            // The conductor knows more than this process, which is new: nothing to do but to look.
            slot.known.generation = desired.generation;
            slot.known.fault = None;
            slot.failed = false;
        }
        if slot.desired.as_ref().is_some_and(|have| have.generation < desired.generation) && desired.want.is_absent() {
            slot.cancel.cancel();
        }
        slot.gone_since = None;
        slot.tell = true;
        slot.desired = Some(desired);
        slot.is_idle_with_work()
    }

    /// Notes that the guest may have changed. True if there is work that nobody does yet.
    pub fn changed(&mut self, server_id: Uuid) -> bool {
        let Some(slot) = self.slots.get_mut(&server_id) else {
            return false;
        };
        slot.look = true;
        slot.is_idle_with_work()
    }

    /// Compares with what the hypervisor lists; the servers that need a look.
    pub fn compare(&mut self, powers: &HashMap<Uuid, Power>) -> Vec<Uuid> {
        let mut changed = Vec::new();
        for (id, slot) in &mut self.slots {
            if !slot.working && slot.known.power != powers.get(id).copied() {
                slot.look = true;
                changed.push(*id);
            }
        }
        changed
    }

    /// Makes the caller the server's worker, if it has none and there is work.
    pub fn begin(&mut self, server_id: Uuid) -> bool {
        let slot = self.slots.get_mut(&server_id).filter(|slot| slot.is_idle_with_work());
        slot.map(|slot| slot.working = true).is_some()
    }

    /// Servers that have work and no worker.
    pub fn idle_with_work(&self) -> Vec<Uuid> {
        self.slots.iter().filter(|(_, slot)| slot.is_idle_with_work()).map(|(id, _)| *id).collect()
    }

    /// The worker's next job; `None` if there is none, and then it is the worker no longer.
    pub fn next(&mut self, server_id: Uuid, now: Timestamp) -> Option<Job> {
        let slot = self.slots.get_mut(&server_id)?;
        if let Some(desired) = slot.desired.as_ref().filter(|desired| desired.generation > slot.reached()) {
            let job = Box::new(desired.clone());
            slot.cancel = CancellationToken::new();
            return Some(Job::Converge(job, slot.cancel.clone()));
        }
        if slot.look || slot.tell {
            slot.look = false;
            return Some(Job::Look { always: std::mem::take(&mut slot.tell) });
        }
        slot.working = false;
        if !slot.known.present && slot.desired.as_ref().is_some_and(|desired| desired.want.is_absent()) {
            slot.gone_since = slot.gone_since.or(Some(now));
        }
        None
    }

    /// Writes down how an attempt ended. Returns what to report, or nothing if a newer document has overtaken it.
    /// A failed attempt is not repeated until the document comes again.
    pub fn finished(&mut self, observed: Observed) -> Option<Observed> {
        let slot = self.slots.get_mut(&observed.server_id)?;
        let newest = slot.desired.as_ref().map_or(observed.generation, |desired| desired.generation);
        slot.failed = observed.fault.is_some();
        if slot.failed && newest > observed.generation {
            return None;
        }
        if slot.failed {
            // Else the next job would be the same one at once. A repeated document clears the attempt.
            slot.desired = None;
        }
        slot.tell = false;
        slot.known = observed;
        Some(slot.known.clone())
    }

    /// Writes down what a look saw. Returns what to report, if it is news.
    pub fn seen(&mut self, server_id: Uuid, seen: Seen, always: bool) -> Option<Observed> {
        let slot = self.slots.get_mut(&server_id)?;
        let Seen { power, volumes } = seen;
        let volumes = volumes.unwrap_or_else(|| slot.known.volumes.clone());
        let other_volumes = slot.known.volumes != volumes;
        slot.known.volumes = volumes;
        let news = other_volumes || slot.known.power != power || slot.known.present != power.is_some();
        slot.known.power = power;
        slot.known.present = power.is_some();
        if power.is_some() && slot.desired.as_ref().is_some_and(|desired| desired.want.is_absent()) {
            // It was taken away, and somebody brought it back.
            slot.failed = true;
        }
        (news || always).then(|| slot.known.clone())
    }

    /// The conductor has heard: how the generation was reached need not be told with every heartbeat.
    pub fn heard(&mut self, server_id: Uuid, generation: Generation) {
        if let Some(slot) = self.slots.get_mut(&server_id).filter(|slot| slot.known.generation == generation) {
            slot.known.steps.clear();
        }
    }

    /// The server's worker is gone, whatever it was doing.
    pub fn abandoned(&mut self, server_id: Uuid) {
        if let Some(slot) = self.slots.get_mut(&server_id) {
            slot.working = false;
        }
    }

    /// What is known of every server, those that are gone for good left out.
    pub fn all(&self) -> Vec<Observed> {
        self.slots.values().map(|slot| slot.known.clone()).collect()
    }

    pub fn knows(&self, server_id: Uuid) -> bool {
        self.slots.contains_key(&server_id)
    }

    /// Servers that are or should be here.
    /// What should be of each server.
    pub fn wanted(&self) -> Vec<(Uuid, Want)> {
        let want = |(id, slot): (&Uuid, &Slot)| Some((*id, slot.desired.as_ref()?.want.clone()));
        self.slots.iter().filter_map(want).collect()
    }

    pub fn held(&self) -> Vec<Uuid> {
        self.slots.iter().filter(|(_, slot)| slot.gone_since.is_none()).map(|(id, _)| *id).collect()
    }

    /// Forgets servers that are gone since before `limit`.
    pub fn forget(&mut self, limit: Timestamp) {
        self.slots.retain(|_, slot| slot.working || slot.gone_since.is_none_or(|since| since > limit));
    }

    /// Ends work in progress early where that is safe; for a stop.
    pub fn cancel_all(&self) {
        self.slots.values().for_each(|slot| slot.cancel.cancel());
    }
}
