use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use umbel_core::{Error, Result, Timestamp};

/// Name of every conductor, whatever its address: agents dial addresses, and believe whom the authority gave this name.
pub(super) const CONTROL: &str = "control.umbel";

/// What an agent's certificate says it speaks for. A URI rather than a DNS name: names of hosts are the operator's, and
/// no two pairs of cell and host read the same.
pub(super) fn agent_uri(cell: &str, host: &str) -> String {
    format!("umbel:agent/{cell}/{host}")
}

const DAY: i64 = 24 * 3600;
/// Clocks of hosts differ.
const BEFORE: i64 = DAY;
const LEAF_DAYS: i64 = 825;
const AUTHORITY_DAYS: i64 = 3650;

/// Signs the certificates of one cloud's bus. Whoever has its key can be any host and any conductor: it stays with the
/// operator, and neither agents nor conductors need it.
pub struct Authority {
    key: KeyPair,
    certificate: String,
}

/// PEM, all three. Anew at each call; there is no renewal but another one.
pub struct Issued {
    /// Whom the other side must be signed by.
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn create(now: Timestamp) -> Result<Authority> {
        let key = KeyPair::generate().map_err(unmade)?;
        let mut params = authority(now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).map_err(unmade)?.pem();
        Ok(Authority { key, certificate })
    }

    pub fn from_pem(key: &str, certificate: &str) -> Result<Authority> {
        let key = KeyPair::from_pem(key).map_err(|error| unmade(error).because("the authority's key"))?;
        Ok(Authority { key, certificate: certificate.to_owned() })
    }

    /// Key and certificate, to be kept.
    pub fn to_pem(&self) -> (String, String) {
        (self.key.serialize_pem(), self.certificate.clone())
    }

    /// For a conductor, and for a compute API, which conductors take orders from.
    pub fn control(&self, now: Timestamp) -> Result<Issued> {
        let name = SanType::DnsName(CONTROL.try_into().map_err(unmade)?);
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(now, vec![name], &both)
    }

    /// For the agent of these hosts of a cell; more than one only for simulated ones. It cannot play a conductor.
    pub fn agent(&self, now: Timestamp, cell: &str, hosts: &[String]) -> Result<Issued> {
        let mut names = Vec::new();
        for name in hosts.iter().map(String::as_str).chain([cell]) {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
                return Err(Error::bad_request(format!(
                    "'{name}' is no name for a host or cell: letters, digits, '-', '.', '_'."
                )));
            }
        }
        for host in hosts {
            names.push(SanType::URI(agent_uri(cell, host).try_into().map_err(unmade)?));
        }
        self.issue(now, names, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue(&self, now: Timestamp, names: Vec<SanType>, usages: &[ExtendedKeyUsagePurpose]) -> Result<Issued> {
        let key = KeyPair::generate().map_err(unmade)?;
        let mut params = CertificateParams::default();
        lasting(&mut params, now, LEAF_DAYS)?;
        params.distinguished_name.push(DnType::CommonName, "umbel bus");
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        // Name and key are all that an issuer leaves in what it signs; its own certificate need not be read for that.
        let issuer = authority(now)?;
        let certificate: Certificate =
            params.signed_by(&key, &Issuer::from_params(&issuer, &self.key)).map_err(unmade)?;
        Ok(Issued { ca: self.certificate.clone(), certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn authority(now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    lasting(&mut params, now, AUTHORITY_DAYS)?;
    params.distinguished_name.push(DnType::CommonName, "umbel bus authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn lasting(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<()> {
    let moment = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(Error::internal);
    params.not_before = moment(now.as_secs() - BEFORE)?;
    params.not_after = moment(now.as_secs() + days * DAY)?;
    Ok(())
}

fn unmade(error: rcgen::Error) -> Error {
    Error::internal(error).because("making a certificate")
}
