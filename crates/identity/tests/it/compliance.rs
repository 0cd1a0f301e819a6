//! What an operator can ask of passwords and accounts.

use std::time::Duration;

use serde_json::{Value, json};
use umbel_http::Router;
use umbel_identity::{Config, SecurityCompliance};

use crate::cloud::{ADMIN_PASSWORD, Answer, Cloud, call, config, password_auth, project_scope, unique};

const DAY: Duration = Duration::from_secs(86_400);

/// A process with rules, on a cloud's database.
struct Strict {
    router: Router,
}

/// A user that a test made.
struct Account {
    id: String,
    name: String,
}

impl Strict {
    async fn new(cloud: &Cloud, compliance: SecurityCompliance) -> Strict {
        let (_, _, router) = cloud.second(Config { compliance, ..config() }).await;
        Strict { router }
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        call(&self.router, "POST", &format!("/identity/v3/{path}"), &[("x-auth-token", token)], body).await
    }

    async fn login(&self, user: &str, password: &str) -> Answer {
        let auth = password_auth(user, password, json!("unscoped"));
        self.post("auth/tokens", "", json!({ "auth": auth })).await
    }

    async fn admin(&self) -> String {
        let auth = password_auth("admin", ADMIN_PASSWORD, project_scope("admin"));
        self.post("auth/tokens", "", json!({ "auth": auth })).await.token()
    }

    async fn make(&self, password: &str, options: Value) -> Account {
        let name = unique("person");
        let fields = json!({"name": name, "password": password, "options": options});
        let made = self.post("users", &self.admin().await, json!({ "user": fields })).await.expect(201);
        Account { id: made["user"]["id"].as_str().unwrap().to_owned(), name }
    }

    async fn patch(&self, user: &Account, fields: Value) -> Answer {
        let (path, admin) = (format!("/identity/v3/users/{}", user.id), self.admin().await);
        call(&self.router, "PATCH", &path, &[("x-auth-token", &admin)], json!({ "user": fields })).await
    }

    async fn show(&self, user: &Account) -> Value {
        let (path, admin) = (format!("/identity/v3/users/{}", user.id), self.admin().await);
        let shown = call(&self.router, "GET", &path, &[("x-auth-token", &admin)], Value::Null).await;
        shown.expect(200)["user"].clone()
    }

    async fn change(&self, user: &Account, old: &str, new: &str) -> Answer {
        let body = json!({"user": {"original_password": old, "password": new}});
        self.post(&format!("users/{}/password", user.id), "", body).await
    }
}

#[tokio::test]
async fn a_user_is_locked_out_for_a_while() {
    for cloud in Cloud::all().await {
        let rules = SecurityCompliance {
            lockout_failure_attempts: Some(2),
            lockout_duration: 5,
            ..SecurityCompliance::default()
        };
        let strict = Strict::new(&cloud, rules).await;
        let user = strict.make("right", json!({})).await;
        strict.login(&user.name, "wrong").await.expect(401);
        strict.login(&user.name, "right").await.expect(201);
        // Right ones in between start the count anew.
        strict.login(&user.name, "wrong").await.expect(401);
        strict.login(&user.name, "wrong").await.expect(401);
        let locked = strict.login(&user.name, "right").await.expect(401);
        assert_eq!(locked, strict.login("nobody", "right").await.expect(401), "no oracle");
        strict.change(&user, "right", "other").await.expect(401);
        cloud.clock.advance(Duration::from_secs(5));
        strict.login(&user.name, "wrong").await.expect(401);
        strict.login(&user.name, "right").await.expect(201);
        // An administrator need not wait.
        strict.change(&user, "wrong", "other").await.expect(401);
        strict.change(&user, "wrong", "other").await.expect(401);
        strict.login(&user.name, "right").await.expect(401);
        strict.patch(&user, json!({"enabled": true})).await.expect(200);
        strict.login(&user.name, "right").await.expect(201);
        // Nobody can keep a program out by guessing.
        let program = strict.make("right", json!({"ignore_lockout_failure_attempts": true})).await;
        for _ in 0..3 {
            strict.login(&program.name, "wrong").await.expect(401);
        }
        strict.login(&program.name, "right").await.expect(201);
    }
}

#[tokio::test]
async fn a_lockout_without_duration_stays() {
    let cloud = Cloud::new().await;
    let rules =
        SecurityCompliance { lockout_failure_attempts: Some(1), lockout_duration: 0, ..SecurityCompliance::default() };
    let strict = Strict::new(&cloud, rules).await;
    let user = strict.make("right", json!({})).await;
    strict.login(&user.name, "wrong").await.expect(401);
    cloud.clock.advance(DAY * 1000);
    strict.login(&user.name, "right").await.expect(401);
    strict.patch(&user, json!({"enabled": true})).await.expect(200);
    strict.login(&user.name, "right").await.expect(201);
}

#[tokio::test]
async fn passwords_do_not_come_back() {
    for cloud in Cloud::all().await {
        let rules = SecurityCompliance { unique_last_password_count: 3, ..SecurityCompliance::default() };
        let strict = Strict::new(&cloud, rules).await;
        let user = strict.make("a", json!({})).await;
        let refused = strict.change(&user, "a", "a").await.expect(400);
        assert_eq!(
            refused["error"]["message"],
            "The new password cannot be identical to a previous password. The total number which includes the new \
             password must be unique is 3."
        );
        strict.change(&user, "a", "b").await.expect(204);
        cloud.tick();
        strict.change(&user, "b", "c").await.expect(204);
        cloud.tick();
        for old in ["a", "b", "c"] {
            strict.change(&user, "c", old).await.expect(400);
        }
        strict.change(&user, "c", "d").await.expect(204);
        cloud.tick();
        strict.change(&user, "d", "a").await.expect(204);
        // An administrator may set any.
        strict.patch(&user, json!({"password": "a"})).await.expect(200);
        strict.patch(&user, json!({"password": "d"})).await.expect(200);
        strict.login(&user.name, "d").await.expect(201);
    }
}

#[tokio::test]
async fn who_chooses_a_password_may_read_its_rules() {
    let cloud = Cloud::new().await;
    let (regex, words) = (r"^\S{4,}$", "four characters, none of them a space");
    let rules = SecurityCompliance {
        password_regex: Some(regex.into()),
        password_regex_description: Some(words.into()),
        ..SecurityCompliance::default()
    };
    let strict = Strict::new(&cloud, rules).await;
    let demo = cloud.demo().await;
    let config = async |domain: &str, rest: &str| {
        let path = format!("/identity/v3/domains/{domain}/config/security_compliance{rest}");
        call(&strict.router, "GET", &path, &[("x-auth-token", &demo)], Value::Null).await
    };
    let both = json!({"security_compliance": {"password_regex": regex, "password_regex_description": words}});
    assert_eq!(config("default", "").await.expect(200)["config"], both);
    assert_eq!(config("default", "/password_regex").await.expect(200)["config"], json!({"password_regex": regex}));
    config("default", "/lockout_duration").await.expect(403);
    config("nowhere", "").await.expect(404);
    let other = cloud.make("domains", "domain", json!({"name": unique("d")})).await;
    config(&other, "").await.expect(403);
    let set = json!({"config": {"security_compliance": {"password_regex": "."}}});
    cloud.call("PUT", "/identity/v3/domains/default/config", &cloud.admin().await, set).await.expect(403);
}

#[tokio::test]
async fn users_are_found_by_when_their_passwords_expire() {
    for cloud in Cloud::all().await {
        let rules = SecurityCompliance { password_expires_days: Some(2), ..SecurityCompliance::default() };
        let strict = Strict::new(&cloud, rules).await;
        let mut users = vec![strict.make("a", json!({})).await];
        cloud.clock.advance(DAY);
        users.push(strict.make("a", json!({})).await);
        users.push(strict.make("a", json!({"ignore_password_expiry": true})).await);
        let first = strict.show(&users[0]).await["password_expires_at"].as_str().unwrap()[..19].to_owned();
        let admin = strict.admin().await;
        let listed = async |filter: &str| {
            let path = format!("/identity/v3/users?password_expires_at={filter}");
            call(&strict.router, "GET", &path, &[("x-auth-token", &admin)], Value::Null).await
        };
        for (operator, want) in [
            ("", &[true, false][..]),
            ("eq:", &[true, false]),
            ("neq:", &[false, true]),
            ("lt:", &[false, false]),
            ("lte:", &[true, false]),
            ("gt:", &[false, true]),
            ("gte:", &[true, true]),
        ] {
            let found = listed(&format!("{operator}{first}Z")).await.expect(200);
            let found: Vec<_> = found["users"].as_array().unwrap().iter().map(|user| user["id"].clone()).collect();
            let has: Vec<bool> = users.iter().map(|user| found.contains(&json!(user.id))).collect();
            assert_eq!(has, [want, &[false]].concat(), "{operator}");
        }
        listed(&format!("le:{first}Z")).await.expect(400);
        listed("lt:yesterday").await.expect(400);
    }
}

#[tokio::test]
async fn passwords_expire() {
    for cloud in Cloud::all().await {
        let rules = SecurityCompliance {
            password_expires_days: Some(2),
            minimum_password_age: 1,
            ..SecurityCompliance::default()
        };
        let strict = Strict::new(&cloud, rules).await;
        let user = strict.make("a", json!({})).await;
        let program = strict.make("a", json!({"ignore_password_expiry": true})).await;
        assert_eq!(strict.show(&program).await["password_expires_at"], Value::Null);
        let told = strict.login(&user.name, "a").await.expect(201);
        assert_eq!(told["token"]["user"]["password_expires_at"], strict.show(&user).await["password_expires_at"]);
        cloud.clock.advance(DAY * 2);
        let late = strict.login(&user.name, "a").await.expect(401);
        let sentence = format!("The password is expired and needs to be changed for user: {}.", user.id);
        assert_eq!(late["error"]["message"], sentence);
        assert_ne!(strict.login(&user.name, "b").await.expect(401)["error"]["message"], sentence);
        strict.login(&program.name, "a").await.expect(201);
        strict.change(&user, "a", "b").await.expect(204);
        strict.login(&user.name, "b").await.expect(201);
        // Not at once again, unless an administrator set it.
        let soon = strict.change(&user, "b", "c").await.expect(400);
        assert!(soon["error"]["message"].as_str().unwrap().contains("Please try again in 1 day(s)"), "{soon}");
        cloud.clock.advance(DAY);
        strict.change(&user, "b", "c").await.expect(204);
        strict.patch(&user, json!({"password": "d"})).await.expect(200);
        strict.change(&user, "d", "e").await.expect(204);
    }
}

#[tokio::test]
async fn passwords_are_strong_and_their_users_own() {
    let cloud = Cloud::new().await;
    let rules = SecurityCompliance {
        password_regex: Some(r"^(?=.*\d)(?=.*[a-z]).{4,}$".to_owned()),
        password_regex_description: Some("Four characters, a digit and a letter.".to_owned()),
        change_password_upon_first_use: true,
        ..SecurityCompliance::default()
    };
    let strict = Strict::new(&cloud, rules).await;
    let admin = strict.admin().await;
    let weak = json!({"user": {"name": "w", "password": "abcd"}});
    let refused = strict.post("users", &admin, weak).await.expect(400);
    let sentence = "The password does not match the requirements: Four characters, a digit and a letter.";
    assert_eq!(refused["error"]["message"], sentence);
    let user = strict.make("abc1", json!({})).await;
    strict.patch(&user, json!({"password": "abcd"})).await.expect(400);
    // An administrator's choice is good for one thing.
    strict.login(&user.name, "abc1").await.expect(401);
    strict.change(&user, "abc1", "short").await.expect(400);
    strict.change(&user, "abc1", "mine5").await.expect(204);
    strict.login(&user.name, "mine5").await.expect(201);
    strict.patch(&user, json!({"password": "reset1"})).await.expect(200);
    strict.login(&user.name, "reset1").await.expect(401);
    let program = strict.make("abc1", json!({"ignore_change_password_upon_first_use": true})).await;
    strict.login(&program.name, "abc1").await.expect(201);
    // Locked ones change for administrators only.
    strict.patch(&program, json!({"options": {"lock_password": true}})).await.expect(200);
    strict.change(&program, "abc1", "mine5").await.expect(400);
    strict.patch(&program, json!({"password": "mine5"})).await.expect(200);
    for bad in [json!({"lock_password": "yes"}), json!({"unheard_of": true})] {
        strict.patch(&program, json!({ "options": bad })).await.expect(400);
    }
}

#[tokio::test]
async fn who_stays_away_is_disabled() {
    for cloud in Cloud::all().await {
        let rules = SecurityCompliance { disable_user_account_days_inactive: Some(3), ..SecurityCompliance::default() };
        let strict = Strict::new(&cloud, rules).await;
        let (user, other) = (strict.make("a", json!({})).await, strict.make("a", json!({})).await);
        let program = strict.make("a", json!({"ignore_user_inactivity": true})).await;
        for _ in 0..2 {
            cloud.clock.advance(DAY * 2);
            strict.login(&user.name, "a").await.expect(201);
            strict.admin().await;
        }
        strict.login(&other.name, "a").await.expect(401);
        assert_eq!(strict.show(&other).await["enabled"], false);
        assert_eq!(strict.show(&user).await["enabled"], true);
        let enabled = strict.patch(&other, json!({"enabled": true})).await.expect(200);
        assert_eq!(enabled["user"]["enabled"], true);
        strict.login(&other.name, "a").await.expect(201);
        strict.login(&program.name, "a").await.expect(201);
    }
}

#[tokio::test]
async fn the_services_own_user_is_exempt() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let found = cloud.get("/identity/v3/users?name=service", &admin).await.expect(200);
    let mut names = crate::cloud::keys(&found["users"][0]["options"]);
    names.retain(|name| name.starts_with("ignore_"));
    assert_eq!(names.len(), 4, "{found}");
}
