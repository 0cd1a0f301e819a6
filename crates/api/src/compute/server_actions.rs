//! `POST /servers/{id}/action`: one path for all actions, told apart by the body's only member. Each has a policy of its
//! own, checked once the body is read; the route's is what all of them need.

use crate::{Method, Route, Rule};

pub static ACTION: Route =
    Route::new(Method::Post, "/v2.1/servers/{server_id}/action", "os_compute_api:servers:action", Rule::Member);

/// An action's policy, and who it allows.
pub struct ActionPolicy {
    /// Name in the request.
    pub name: &'static str,
    pub policy: &'static str,
    pub rule: Rule,
    /// First and last minor version that has it.
    pub versions: (u16, u16),
    pub supported: bool,
}

const LAST: u16 = u16::MAX;

const fn action(name: &'static str, policy: &'static str, rule: Rule) -> ActionPolicy {
    ActionPolicy { name, policy, rule, versions: (1, LAST), supported: true }
}

const fn later(name: &'static str, policy: &'static str, rule: Rule, versions: (u16, u16)) -> ActionPolicy {
    ActionPolicy { name, policy, rule, versions, supported: false }
}

/// All actions of the reference. Those that are not supported yet are known, so that they are refused in words.
pub static ACTIONS: &[ActionPolicy] = &[
    action("os-start", "os_compute_api:servers:start", Rule::Member),
    action("os-stop", "os_compute_api:servers:stop", Rule::Member),
    action("reboot", "os_compute_api:servers:reboot", Rule::Member),
    action("pause", "os_compute_api:os-pause-server:pause", Rule::Member),
    action("unpause", "os_compute_api:os-pause-server:unpause", Rule::Member),
    action("forceDelete", "os_compute_api:os-deferred-delete:force", Rule::Member),
    action("lock", "os_compute_api:os-lock-server:lock", Rule::Member),
    action("unlock", "os_compute_api:os-lock-server:unlock", Rule::Member),
    action("os-getConsoleOutput", "os_compute_api:os-console-output", Rule::Member),
    action("createImage", "os_compute_api:servers:create_image", Rule::Member),
    action("createBackup", "os_compute_api:os-create-backup", Rule::Member),
    action("os-resetState", "os_compute_api:os-admin-actions:reset_state", Rule::Admin),
    later("rebuild", "os_compute_api:servers:rebuild", Rule::Member, (1, LAST)),
    later("resize", "os_compute_api:servers:resize", Rule::Member, (1, LAST)),
    later("confirmResize", "os_compute_api:servers:confirm_resize", Rule::Member, (1, LAST)),
    later("revertResize", "os_compute_api:servers:revert_resize", Rule::Member, (1, LAST)),
    later("suspend", "os_compute_api:os-suspend-server:suspend", Rule::Member, (1, LAST)),
    later("resume", "os_compute_api:os-suspend-server:resume", Rule::Member, (1, LAST)),
    later("shelve", "os_compute_api:os-shelve:shelve", Rule::Member, (1, LAST)),
    later("shelveOffload", "os_compute_api:os-shelve:shelve_offload", Rule::Admin, (1, LAST)),
    later("unshelve", "os_compute_api:os-shelve:unshelve", Rule::Member, (1, LAST)),
    later("rescue", "os_compute_api:os-rescue", Rule::Member, (1, LAST)),
    later("unrescue", "os_compute_api:os-unrescue", Rule::Member, (1, LAST)),
    later("restore", "os_compute_api:os-deferred-delete:restore", Rule::Member, (1, LAST)),
    later("changePassword", "os_compute_api:os-admin-password", Rule::Member, (1, LAST)),
    later("migrate", "os_compute_api:os-migrate-server:migrate", Rule::Admin, (1, LAST)),
    later("os-migrateLive", "os_compute_api:os-migrate-server:migrate_live", Rule::Admin, (1, LAST)),
    later("evacuate", "os_compute_api:os-evacuate", Rule::Admin, (1, LAST)),
    later("injectNetworkInfo", "os_compute_api:os-admin-actions:inject_network_info", Rule::Admin, (1, LAST)),
    later("resetNetwork", "os_compute_api:os-admin-actions:reset_network", Rule::Admin, (1, LAST)),
    later("trigger_crash_dump", "os_compute_api:servers:trigger_crash_dump", Rule::Admin, (17, LAST)),
    later("addSecurityGroup", "os_compute_api:os-security-groups:add", Rule::Member, (1, LAST)),
    later("removeSecurityGroup", "os_compute_api:os-security-groups:remove", Rule::Member, (1, LAST)),
    later("addFixedIp", "os_compute_api:os-multinic:add", Rule::Member, (1, 43)),
    later("removeFixedIp", "os_compute_api:os-multinic:remove", Rule::Member, (1, 43)),
    later("addFloatingIp", "os_compute_api:os-floating-ips:add", Rule::Member, (1, 43)),
    later("removeFloatingIp", "os_compute_api:os-floating-ips:remove", Rule::Member, (1, 43)),
    later("os-getVNCConsole", "os_compute_api:os-remote-consoles", Rule::Member, (1, 5)),
    later("os-getSPICEConsole", "os_compute_api:os-remote-consoles", Rule::Member, (1, 5)),
    later("os-getRDPConsole", "os_compute_api:os-remote-consoles", Rule::Member, (1, 5)),
    later("os-getSerialConsole", "os_compute_api:os-remote-consoles", Rule::Member, (1, 5)),
];

/// The action of this name at this minor version.
pub fn find(name: &str, minor: u16) -> Option<&'static ActionPolicy> {
    ACTIONS.iter().find(|action| action.name == name && action.versions.0 <= minor && minor <= action.versions.1)
}
