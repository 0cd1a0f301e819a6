"""Makes what Tempest needs in a cloud and writes its configuration: `prepare.py CLOUD WORK [IMAGE]`.

CLOUD holds `clouds.yaml`; WORK takes `tempest.conf`; IMAGE is a raw disk that boots, without which a few bytes stand in
for it. In the environment, WEB is the URL of a web server that has WORK/web: imports are downloaded from there; KIND is
`lenient` for a cloud that stores images without looking into them (see scripts/tempest.sh).

The feature flags say what the cloud has, never what makes a test pass. What is left out has Tempest's default.
"""

import configparser
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import yaml

GIB = 1 << 30
LENIENT = os.environ.get("KIND") == "lenient"
# Of guests that only have to boot.
FLAVORS = (("tempest", 128, 1), ("tempest-alt", 192, 1))


class Cloud:
    def __init__(self, path):
        with open(os.path.join(path, "clouds.yaml"), encoding="utf-8") as file:
            self.config = yaml.safe_load(file)["clouds"]["umbel"]
        self.auth = self.config["auth"]
        domain = {"name": "Default"}
        user = {"name": self.auth["username"], "password": self.auth["password"], "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": self.auth["project_name"], "domain": domain}},
            }
        }
        self.token = None
        headers, reply = self.call("POST", self.auth["auth_url"] + "/v3/auth/tokens", body)
        self.token = headers["X-Subject-Token"]
        self.urls = {
            service["type"]: endpoint["url"]
            for service in reply["token"]["catalog"]
            for endpoint in service["endpoints"]
            if endpoint["interface"] == "public"
        }

    def has(self, *kinds):
        return any(kind in self.urls for kind in kinds)

    def url(self, *kinds):
        return next(self.urls[kind] for kind in kinds if kind in self.urls)

    def call(self, method, url, body=None, raw=None):
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.token:
            headers["X-Auth-Token"] = self.token
        data = json.dumps(body).encode() if body is not None else None
        if raw is not None:
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(os.path.getsize(raw))
            data = open(raw, "rb")
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=300) as reply:
            text = reply.read()
            return reply.headers, json.loads(text) if text else None

    def second_endpoint(self, kind, of):
        """A service by another name, for tests that want two workers of one: any process of ours does for another what
        it has begun, as it keeps nothing to itself."""
        root = self.auth["auth_url"] + "/v3"
        _, reply = self.call("GET", f"{root}/services?type={kind}")
        if not reply["services"]:
            _, made = self.call("POST", root + "/services", {"service": {"type": kind, "name": kind}})
            endpoint = {"service_id": made["service"]["id"], "interface": "public", "url": self.url(of)}
            endpoint["region_id"] = self.config["region_name"]
            self.call("POST", root + "/endpoints", {"endpoint": endpoint})
        return kind

    def image(self, name, path):
        root = self.url("image")
        body = {"name": name, "disk_format": "raw", "container_format": "bare", "visibility": "public", "min_disk": 1}
        _, image = self.call("POST", root + "/v2/images", body)
        self.call("PUT", f"{root}/v2/images/{image['id']}/file", raw=path)
        return image["id"]

    def flavor(self, name, ram, disk):
        root = self.url("compute").rstrip("/")
        _, reply = self.call("GET", root + "/flavors")
        for flavor in reply["flavors"]:
            if flavor["name"] == name:
                return flavor["id"]
        body = {"flavor": {"name": name, "ram": ram, "vcpus": 1, "disk": disk}}
        return self.call("POST", root + "/flavors", body)[1]["flavor"]["id"]

    def volume_root(self):
        return self.url("block-storage", "volumev3").rstrip("/")

    def volume_type(self, name, specs):
        root = self.volume_root()
        _, reply = self.call("GET", root + "/types")
        if all(kind["name"] != name for kind in reply["volume_types"]):
            self.call("POST", root + "/types", {"volume_type": {"name": name, "extra_specs": specs}})
        return name

    def back_ends(self):
        _, reply = self.call("GET", self.volume_root() + "/scheduler-stats/get_pools?detail=True")
        names = {pool["capabilities"].get("volume_backend_name") or pool["name"] for pool in reply["pools"]}
        return sorted(names), reply["pools"]


def or_nothing(ask, nothing):
    """Its answer, or `nothing` where the cloud refuses: tests that need it fail then, and the others run."""
    try:
        return ask()
    except urllib.error.HTTPError as error:
        print(f"prepare: {error.url}: {error}", file=sys.stderr)
        return nothing


def identity(conf, cloud):
    conf["auth"] = {
        "use_dynamic_credentials": True,
        "create_isolated_networks": False,
        "admin_username": cloud.auth["username"],
        "admin_password": cloud.auth["password"],
        "admin_project_name": cloud.auth["project_name"],
        "admin_domain_name": "Default",
        "default_credentials_domain_name": "Default",
        "tempest_roles": "member",
    }
    conf["identity"] = {
        "auth_version": "v3",
        "uri_v3": cloud.auth["auth_url"] + "/v3",
        "region": cloud.config["region_name"],
        "default_domain_id": "default",
        "v3_endpoint_type": "public",
        # As scripts/tempest.sh configures the cloud.
        "user_lockout_failure_attempts": 2,
        "user_lockout_duration": 15,
        "user_unique_last_password_count": 2,
    }
    conf["identity-feature-enabled"] = {"api_v2": False, "api_v3": True, "security_compliance": True}


def samples(work):
    """A manifest of small images, as os-test-images writes it: one of each format, and what no host may open."""
    root = os.path.join(work, "samples")
    os.makedirs(root, exist_ok=True)
    images = []

    def sample(name, kind, usable=True, of=None, options=()):
        path = os.path.join(root, name)
        words = ["qemu-img", "create", "-q", "-f", of or kind, *options, path, "1M"]
        subprocess.run(words, check=True, cwd=root)
        images.append({"name": name, "format": kind, "filename": name, "usable": usable})

    sample("plain.raw", "raw")
    sample("plain.qcow2", "qcow2")
    sample("sparse.vmdk", "vmdk", options=("-o", "subformat=monolithicSparse"))
    sample("plain.vhd", "vhd", of="vpc")
    sample("plain.vhdx", "vhdx")
    sample("plain.vdi", "vdi")
    sample("backed.qcow2", "qcow2", False, options=("-u", "-b", "plain.raw", "-F", "raw"))
    sample("outside.qcow2", "qcow2", False, options=("-o", "data_file=outside.data,data_file_raw=on"))
    # What an ISO 9660 begins with: 16 sectors for whoever boots, and the primary volume descriptor.
    with open(os.path.join(root, "plain.iso"), "wb") as file:
        file.write(bytes(16 * 2048) + b"\x01CD001\x01" + bytes(2041) + b"\xffCD001\x01" + bytes(2041) + bytes(1 << 19))
    images.append({"name": "plain.iso", "format": "iso", "filename": "plain.iso", "usable": True})
    manifest = os.path.join(root, "manifest.yaml")
    with open(manifest, "w", encoding="utf-8") as file:
        yaml.safe_dump({"images": images}, file)
    return manifest


def image(conf, cloud, work):
    conf["image"] = {
        "build_timeout": 180,
        "build_interval": 1,
        "images_manifest_file": samples(work),
        "alternate_image_endpoint": cloud.second_endpoint("image_remote", "image"),
        "image_caching_enabled": True,
    }
    web = os.environ.get("WEB")
    if web:
        conf["image"]["http_image"] = web + "/disk.raw"
        conf["image"]["http_qcow2_image"] = web + "/disk.qcow2"
        os.makedirs(os.path.join(work, "web"), exist_ok=True)
        with open(os.path.join(work, "web", "disk.raw"), "wb") as file:
            file.write(b"umbel" * 4096)
        qcow2 = os.path.join(work, "web", "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M"], check=True)
    conf["image-feature-enabled"] = {
        "api_v2": True,
        "import_image": True,
        # Into raw twins, beside which originals are kept.
        "image_conversion": True,
        "image_format_enforcement": not LENIENT,
        "do_secure_hash": not LENIENT,
        "http_store_enabled": True,
        "manage_locations": True,
        "store_weight_enabled": True,
    }


def compute(conf, cloud, work, disk):
    if not disk:
        disk = os.path.join(work, "disk.raw")
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
    first, second = (cloud.image(name, disk) for name in ("tempest", "tempest-alt"))
    conf["compute"] = {
        "image_ref": first,
        "image_ref_alt": second,
        "build_timeout": 300,
        "build_interval": 1,
        "max_microversion": "latest",
    }
    if cloud.has("compute"):
        refs = [cloud.flavor(*flavor) for flavor in FLAVORS]
        conf["compute"].update(flavor_ref=refs[0], flavor_ref_alt=refs[1])
    conf["compute-feature-enabled"] = {"volume_multiattach": True}
    conf["validation"] = {"run_validation": False}


def network(conf):
    """Lets tests with servers run in a cloud whose servers need no network.

    Tempest skips whole classes (all volume tests that attach something) where there is no network service, for it would
    make each a network. Told that there is one, and that projects get none of their own, it boots servers without naming
    a network, and calls the network service once: it lists a project's security groups before it deletes the project,
    where "not found" is a fine answer. The image service gives it; a catalog entry without a service would be a lie
    that clients see.
    """
    conf["service_available"]["neutron"] = True
    conf["network"] = {"catalog_type": "image"}


def volume(conf, cloud):
    conf["volume"] = {
        "build_timeout": 180,
        "build_interval": 1,
        "max_microversion": "latest",
        "catalog_type": "block-storage",
    }
    features = conf["volume-feature-enabled"] = {
        "backup": True,
        "snapshot": True,
        "clone": True,
        "manage_snapshot": True,
        "manage_volume": True,
        "extend_attached_volume": True,
        "extend_volume_with_snapshot": True,
        "enable_volume_image_dep_tests": True,
    }
    names, pools = or_nothing(cloud.back_ends, ([], []))
    capabilities = pools[0]["capabilities"] if pools else {}
    conf["volume"].update(
        storage_protocol=capabilities.get("storage_protocol", "ceph"),
        vendor_name=capabilities.get("vendor_name", "Open Source"),
        # Files: backups do not go to another Ceph pool unless somebody says so.
        backup_driver="posix",
        manage_volume_ref="source-name,volume-%s",
        # Tempest's default has the name that other drivers give.
        manage_snapshot_ref="source-name,snapshot-%s",
    )
    multi = {"multiattach": "<is> True"}
    kind = or_nothing(lambda: cloud.volume_type("tempest-multiattach", multi), "")
    conf["volume"]["volume_type_multiattach"] = kind
    if len(names) > 1:
        features["multi_backend"] = True
        conf["volume"]["backend_names"] = ",".join(names[:2])


def main():
    path, work = sys.argv[1:3]
    disk = sys.argv[3] if len(sys.argv) > 3 else None
    cloud = Cloud(path)
    # Names and values are taken as they are: `%s` too.
    conf = configparser.RawConfigParser()
    conf.optionxform = str
    sections = {}
    sections["service_available"] = {
        "cinder": cloud.has("block-storage", "volumev3"),
        "neutron": cloud.has("network"),
        "glance": True,
        "swift": False,
        "nova": cloud.has("compute"),
        "horizon": False,
    }
    identity(sections, cloud)
    image(sections, cloud, work)
    compute(sections, cloud, work, disk)
    if sections["service_available"]["cinder"]:
        volume(sections, cloud)
    if not cloud.has("network"):
        network(sections)
    sections["DEFAULT"] = {"log_file": os.path.join(work, "tempest.log"), "debug": True}
    sections["oslo_concurrency"] = {"lock_path": os.path.join(work, "locks")}
    conf.read_dict(sections)
    for change in os.environ.get("UMBEL_TEMPEST_SET", "").split():
        name, value = change.split("=", 1)
        section, option = name.rsplit(".", 1)
        conf.set(section, option, value)
    with open(os.path.join(work, "tempest.conf"), "w", encoding="utf-8") as file:
        conf.write(file)


main()
