use std::time::Duration;

use crate::SecurityCompliance;

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a token is good.
    pub token_ttl: Duration,
    /// How long after its expiry a token can still be validated with `allow_expired`: long jobs outlive their token.
    pub allow_expired_window: Duration,
    /// How long a good password is remembered (as a keyed hash, in memory); zero for never. What that trades is told
    /// with the passwords.
    pub password_cache_ttl: Duration,
    /// How many good passwords are remembered.
    pub password_cache_size: usize,
    /// How long roles and catalog in memory are shown without a look whether another process changed them. Logins
    /// look every time.
    pub directory_ttl: Duration,
    /// Most entries of a list's page.
    pub max_page: usize,
    /// Seals credentials' blobs (EC2 secrets, TOTP seeds) in the database; without one they are stored as they come.
    pub credential_key: Option<CredentialKey>,
    pub compliance: SecurityCompliance,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            token_ttl: Duration::from_secs(3600),
            allow_expired_window: Duration::from_secs(48 * 3600),
            password_cache_ttl: Duration::from_secs(300),
            password_cache_size: 4096,
            directory_ttl: Duration::from_secs(5),
            max_page: 10_000,
            credential_key: None,
            compliance: SecurityCompliance::default(),
        }
    }
}

/// A secret of 32 bytes that a log line cannot show.
#[derive(Clone)]
pub struct CredentialKey(pub [u8; 32]);

impl std::fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialKey(..)")
    }
}
