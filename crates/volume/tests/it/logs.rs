//! How much the services log, changed while they run.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::json;
use umbel_core::{LogFilter, LogLevel, Result};

use crate::cloud::Cloud;

struct Levels(Mutex<BTreeMap<String, LogLevel>>);

impl LogFilter for Levels {
    fn levels(&self) -> BTreeMap<String, LogLevel> {
        self.0.lock().clone()
    }

    fn set(&self, prefix: &str, level: LogLevel) -> Result<()> {
        self.0.lock().insert(prefix.to_owned(), level);
        Ok(())
    }
}

#[tokio::test]
async fn log_levels_are_the_processs() {
    let cloud = Cloud::new().await;
    let (admin, member) = (cloud.admin(), cloud.member("p"));
    let (set, get) = ("/os-services/set-log", "/os-services/get-log");
    // Where nobody can change them, it is said.
    let debug = json!({"binary": "cinder-volume", "server": "umbel", "prefix": "umbel_volume", "level": "debug"});
    cloud.put(&admin, set, debug.clone()).await.expect(501);
    let first = BTreeMap::from([(String::new(), LogLevel::Warning), ("umbel".to_owned(), LogLevel::Info)]);
    assert!(umbel_core::install_log_filter(Box::new(Levels(Mutex::new(first)))));

    cloud.put(&admin, set, debug).await.expect(202);
    let told = cloud.put(&admin, get, json!({"binary": "cinder-volume", "prefix": "umbel"})).await.expect(200);
    let one = &told["log_levels"][0];
    assert_eq!(
        (&one["binary"], &one["levels"]),
        (&json!("cinder-volume"), &json!({"umbel": "INFO", "umbel_volume": "DEBUG"}))
    );
    let all = cloud.put(&admin, get, json!({})).await.expect(200);
    assert_eq!(all["log_levels"][0]["levels"][""], "WARNING");

    cloud.put(&admin, set, json!({"level": "loud"})).await.refused(400, "is not a valid log level");
    cloud.put(&admin, set, json!({"level": "info", "binary": "nova-api"})).await.expect(400);
    cloud.put(&member, set, json!({"level": "info"})).await.expect(403);
}
