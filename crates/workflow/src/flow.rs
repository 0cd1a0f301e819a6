use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use umbel_core::{Error, Result, Timestamp};
use umbel_db::Schema;

/// The steps of a flow, in the order in which they are done; undone in the reverse.
pub trait Step: Copy + Eq + Send + Sync + 'static {
    const ALL: &'static [Self];

    /// Stored; a landed name is never changed.
    fn name(self) -> &'static str;

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.name() == name)
    }

    fn position(self) -> usize {
        Self::ALL.iter().position(|step| *step == self).unwrap_or(0)
    }
}

/// Where a flow goes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<S> {
    /// To this step, once the state is saved.
    Go(S),
    /// To this step without saving: for a step that only decides. A crash runs the earlier one again.
    Through(S),
    /// The same step again, after a while or when nudged; frees the slot meanwhile.
    Wait(Duration),
    /// Undoes from this step back to and including that one, then runs that one.
    Rewind(S),
    /// Ends well; the row goes, if it did not go with [`crate::finish`].
    Done,
}

/// What a step may know of the run it is part of.
#[derive(Clone, Debug)]
pub struct Run {
    /// The flow's id: that of what it works on.
    pub id: String,
    pub request_id: String,
    /// How often this step failed in a way worth trying again, since it last went well.
    pub attempt: u32,
    pub created_at: Timestamp,
    pub(crate) kind: String,
    pub(crate) generation: i64,
}

#[async_trait]
pub trait Flow: Send + Sync + 'static {
    type Schema: Schema;
    type State: Serialize + DeserializeOwned + Send + Sync;
    type Step: Step;

    /// Stored; a landed name is never changed.
    const KIND: &'static str;

    /// How long after its start the flow waits no more and undoes.
    const DEADLINE: Duration = Duration::from_secs(30 * 60);

    /// How often a step is tried that fails with a kind worth trying again (busy, unavailable, timeout).
    const ATTEMPTS: u32 = 8;

    async fn run(&self, step: Self::Step, state: &mut Self::State, run: &Run) -> Result<Next<Self::Step>>;

    /// Takes back what `run` of this step did, or may have half done, or never did.
    async fn undo(&self, step: Self::Step, state: &mut Self::State, run: &Run) -> Result<()>;

    /// The last act of a flow that failed, after all is undone: to leave the reason where the user finds it. May run
    /// twice.
    async fn failed(&self, state: &mut Self::State, error: &Error, run: &Run) -> Result<()>;
}
