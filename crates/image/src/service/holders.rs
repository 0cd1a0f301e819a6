//! Whose a claim is. Its token names the process that holds it, so that whoever takes over what it leaves can have the pools
//! refuse it first: it may stand still, and go on with the disk of this name later.

use crate::Images;

/// Between the process and what tells its claims apart.
const MARK: char = '.';

/// Tokens are this long in the database, as UUIDs are.
const LENGTH: usize = 36;

impl Images {
    pub(super) fn new_token(&self) -> String {
        let random = self.rng.uuid();
        match &self.work.process {
            Some(process) => {
                let mut token = format!("{}{MARK}{}", process.name, random.simple());
                token.truncate(LENGTH);
                token
            }
            None => random.to_string(),
        }
    }

    /// Whether nothing is to be feared any more of the holder of this claim, which has run out. A claim of this process is
    /// given up by itself, in so far as it lives.
    pub(super) async fn is_rid_of(&self, token: Option<&str>) -> bool {
        let (Some(process), Some((holder, _))) = (&self.work.process, token.and_then(|token| token.split_once(MARK)))
        else {
            return true;
        };
        if holder == process.name {
            return true;
        }
        let shut_out = process.fence.shut_out(holder).await;
        if let Err(error) = &shut_out {
            tracing::warn!(holder, cause = error.cause(), "its claims are not taken over yet: {error}");
        }
        shut_out.is_ok()
    }
}
