#include "source/git.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "sys/temp_dir.hpp"

#include <array>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::source {
namespace {

constexpr int kMaxTreeDepth = 512;

Result<bool> flag(const std::string& name, const std::string& value) {
    if (value == "true" || value == "1") return true;
    if (value == "false" || value == "0" || value.empty()) return false;
    return bad_input("{} {} is neither true nor false", name, quoted(value));
}

// Submodules of GitHub repositories live on GitHub too, so the header is good for all of it.
std::string auth_scope(const GitUrl& url) {
    if (url.host == "github.com") return url.scheme + "://github.com/";
    return url.remote_without_credentials();
}

struct RemoteRef {
    std::string id;
    std::string name;
};

std::vector<RemoteRef> parse_ls_remote(const std::string& text) {
    std::vector<RemoteRef> refs;
    for (const std::string& line : split(text, '\n')) {
        const auto [id, name] = cut(line, '\t');
        if (name && is_commit_id(id)) refs.push_back({std::string(id), std::string(trim(*name))});
    }
    return refs;
}

std::string find_ref(const std::vector<RemoteRef>& refs, const std::string& name) {
    for (const RemoteRef& ref : refs) {
        if (ref.name == name) return ref.id;
    }
    return "";
}

std::string strip_prefix(std::string_view text, std::string_view prefix) {
    return std::string(text.starts_with(prefix) ? text.substr(prefix.size()) : text);
}

std::string cache_key(const GitRequest& request, const std::string& object, const std::string& ref) {
    std::string key = object;
    if (request.keep_git_dir) {
        key += ".git";
        if (!ref.empty()) key += "#" + ref;
    }
    if (!request.url.subdir.empty()) key += ":" + request.url.subdir;
    if (request.skip_submodules) key += "(skip-submodules)";
    if (request.mtime == GitMtime::commit) key += "(mtime=commit)";
    return key;
}

// Times of everything below a directory; links are not followed.
Result<> set_times(int dir_fd, std::int64_t seconds, int depth) {
    if (depth > kMaxTreeDepth) return bad_input("the repository nests deeper than {} directories", kMaxTreeDepth);
    const std::array<timespec, 2> times{timespec{.tv_sec = seconds}, timespec{.tv_sec = seconds}};
    for (const sys::DirEntry& entry : TRY(sys::list_dir(dir_fd))) {
        if (entry.type == DT_DIR && entry.name != ".git") {
            const sys::Fd child(openat(dir_fd, entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!child.valid()) return fail_errno(errno, "open " + entry.name);
            TRY(set_times(child.get(), seconds, depth + 1));
        }
        if (utimensat(dir_fd, entry.name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
            return fail_errno(errno, "set the time of " + entry.name);
        }
    }
    return {};
}

// ".git" of the repository and of its submodules.
Result<> remove_git_dirs(int dir_fd, int depth) {
    if (depth > kMaxTreeDepth) return bad_input("the repository nests deeper than {} directories", kMaxTreeDepth);
    for (const sys::DirEntry& entry : TRY(sys::list_dir(dir_fd))) {
        if (entry.name == ".git") {
            TRY(sys::remove_tree_at(dir_fd, entry.name));
        } else if (entry.type == DT_DIR) {
            const sys::Fd child(openat(dir_fd, entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!child.valid()) return fail_errno(errno, "open " + entry.name);
            TRY(remove_git_dirs(child.get(), depth + 1));
        }
    }
    return {};
}

// Opens subdir step by step; a symbolic link on the way is refused.
Result<sys::Fd> open_subdir(const sys::RootedDir& root, const std::string& subdir) {
    sys::Fd at = TRY(root.open("/", O_RDONLY | O_DIRECTORY, sys::Follow::no, 0));
    if (subdir.empty()) return at;
    for (const std::string& part : split(subdir, '/')) {
        sys::Fd next(openat(at.get(), part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!next.valid()) {
            return bad_input("the repository has no directory {}", quoted(subdir))
                .with_hint("symbolic links are not followed there");
        }
        at = std::move(next);
    }
    return at;
}

void tell(VertexProgress* progress, const std::string& what, bool done) {
    if (progress) progress->status(what, what, 0, 0, done);
}

}  // namespace

struct GitSource::Access {
    std::unique_ptr<session::SshSocket> agent;
    sys::TempDir known_hosts;
    Git git{GitIdentity{}};
};

struct GitSource::Checkout {
    const GitRequest& request;
    const GitPin& pinned;
    const Git& git;
    const std::string& bare;
    const sys::RootedDir& into;
    const std::string& into_path;
    const std::string& scratch;
};

Result<GitRequest> git_request(const std::string& identifier, const std::map<std::string, std::string>& attributes) {
    const auto [address, fragment] = cut(identifier, '#');
    std::string url(address);
    if (const auto full = attributes.find("git.fullurl"); full != attributes.end()) {
        url = full->second;
        if (!url.contains("://") && !url.contains('@')) url = "https://" + url;
    } else if (!url.contains("://") && !url.contains('@')) {
        url = "https://" + url;
    }
    if (fragment) url = std::string(cut(url, '#').first) + "#" + std::string(*fragment);
    GitRequest request{.url = TRY(GitUrl::parse(url))};
    for (const auto& [name, value] : attributes) {
        if (name == "git.keepgitdir") {
            request.keep_git_dir = TRY(flag(name, value));
        } else if (name == "git.skipsubmodules") {
            request.skip_submodules = TRY(flag(name, value));
        } else if (name == "git.fetchbycommit") {
            request.fetch_by_commit = TRY(flag(name, value));
        } else if (name == "git.checksum") {
            const bool hex = value.find_first_not_of("0123456789abcdef") == std::string::npos && value.size() <= 64;
            if (!hex) return bad_input("git.checksum {} is no commit id or the beginning of one", quoted(value));
            request.checksum = value;
        } else if (name == "git.mtime") {
            if (value != "checkout" && value != "commit") {
                return bad_input("git.mtime {} is neither checkout nor commit", quoted(value));
            }
            request.mtime = value == "commit" ? GitMtime::commit : GitMtime::checkout;
        } else if (name == "git.authheadersecret") {
            request.auth_header_secret = value;
        } else if (name == "git.authtokensecret") {
            request.auth_token_secret = value;
        } else if (name == "git.knownsshhosts") {
            request.known_ssh_hosts = value;
        } else if (name == "git.mountsshsock") {
            request.ssh_id = value;
        } else if (name.starts_with("git.sig.") || name == "git.bundle" || name == "git.checkoutbundle") {
            return fail(Code::unimplemented, Blame::user, "{} is not supported for git sources", name)
                .with_hint("pin the commit with git.checksum instead");
        }
    }
    if (request.fetch_by_commit && !is_commit_id(request.url.ref) && !is_commit_id(request.checksum)) {
        return bad_input("fetching {} by commit needs a full commit id", request.url.remote_without_credentials());
    }
    return request;
}

Result<std::unique_ptr<GitSource::Access>> GitSource::open_access(const GitRequest& request, session::Session& session,
                                                                  const Stop& stop) {
    auto access = std::make_unique<Access>();
    GitIdentity identity;
    identity.offline = offline_;
    const std::string host = request.url.host;
    if (request.url.scheme == "http" || request.url.scheme == "https") {
        struct Candidate {
            std::string id;
            bool token;
        };
        std::vector<Candidate> candidates;
        for (const std::string& suffix : {"." + host, std::string()}) {
            if (!request.auth_header_secret.empty()) candidates.push_back({request.auth_header_secret + suffix, false});
            if (!request.auth_token_secret.empty()) candidates.push_back({request.auth_token_secret + suffix, true});
        }
        for (const Candidate& candidate : candidates) {
            const auto secret = TRY(session.find_secret(candidate.id, stop));
            if (!secret) continue;
            const std::string value(trim(secret->reveal()));
            if (value.find_first_of("\r\n") != std::string::npos) {
                return bad_input("secret {} has a line break in it", quoted(candidate.id));
            }
            identity.auth_header =
                "Authorization: " +
                (candidate.token ? "basic " + codec::base64_encode("x-access-token:" + value) : value);
            identity.auth_scope = auth_scope(request.url);
            break;
        }
    }
    if (!request.ssh_id.empty() && (request.url.scheme == "ssh" || request.url.scheme == "scp")) {
        access->agent =
            TRY(session.open_ssh(request.ssh_id, session::SocketOwner{.uid = geteuid(), .gid = getegid()}, stop));
        if (access->agent) identity.ssh_auth_sock = access->agent->host_path();
    }
    if (!request.known_ssh_hosts.empty()) {
        access->known_hosts = TRY(sys::TempDir::create(TRY(store_.scratch_dir()), "hosts-"));
        const sys::Fd file =
            TRY(access->known_hosts.dir().open("known_hosts", O_WRONLY | O_CREAT | O_EXCL, sys::Follow::no, 0600));
        TRY(sys::write_all(file.get(), request.known_ssh_hosts));
        identity.known_hosts_file = access->known_hosts.path() + "/known_hosts";
    }
    access->git = Git(std::move(identity));
    return access;
}

Result<GitPin> GitSource::pin(const GitRequest& request, session::Session& session, VertexProgress* progress,
                              const Stop& stop) {
    const std::string& ref = request.url.ref;
    const std::string shown = request.url.remote_without_credentials();
    GitPin pinned;
    const bool by_checksum = request.fetch_by_commit && is_commit_id(request.checksum);
    if (is_commit_id(ref) || by_checksum) {
        pinned.commit = pinned.object = is_commit_id(ref) ? ref : request.checksum;
        pinned.ref = pinned.commit;
        if (!pinned.commit.starts_with(request.checksum)) {
            return bad_input("{}: the commit {} does not have the checksum {}", shown, ref, request.checksum);
        }
        pinned.key = cache_key(request, pinned.object, is_commit_id(ref) ? "" : ref);
        return pinned;
    }
    if (offline_ && request.url.scheme != "file") {
        return fail(Code::failed_precondition, Blame::user, "offline: {} is wanted",
                    request.url.remote_without_credentials())
            .with_hint("name a commit, or lock it with cooper lock");
    }
    const auto access = TRY(open_access(request, session, stop));
    const std::string what = "resolve " + shown + (ref.empty() ? "" : "#" + ref);
    tell(progress, what, false);
    std::vector<std::string> args{"ls-remote", "--symref", "--", request.url.remote(), ref.empty() ? "HEAD" : ref};
    if (!ref.empty()) args.push_back(ref + "^{}");
    const std::string text = TRY_CONTEXT(access->git.run({}, args, stop), "{}", shown);
    const std::vector<RemoteRef> refs = parse_ls_remote(text);
    std::string object;
    if (ref.empty()) {
        object = find_ref(refs, "HEAD");
        pinned.ref = "HEAD";
        for (const std::string& line : split(text, '\n')) {
            if (line.starts_with("ref: ")) pinned.ref = cut(std::string_view(line).substr(5), '\t').first;
        }
    } else {
        for (const std::string& name :
             {"refs/" + strip_prefix(ref, "refs/"), "refs/heads/" + strip_prefix(ref, "refs/heads/"),
              "refs/tags/" + strip_prefix(ref, "refs/tags/")}) {
            object = find_ref(refs, name);
            pinned.ref = name;
            if (!object.empty()) break;
        }
    }
    if (object.empty()) {
        return fail(Code::not_found, Blame::user, "repository {} has no branch or tag {}", shown,
                    quoted(ref.empty() ? "HEAD" : ref));
    }
    // An annotated tag is an object of its own; what it points to is what we build.
    const std::string peeled = find_ref(refs, pinned.ref + "^{}");
    pinned.commit = peeled.empty() ? object : peeled;
    pinned.object = request.keep_git_dir ? object : pinned.commit;
    if (!pinned.commit.starts_with(request.checksum) && !object.starts_with(request.checksum)) {
        return bad_input("{}: expected checksum {}, but {} is {}", shown, request.checksum, quoted(ref), pinned.commit)
            .with_hint("the ref has moved since the checksum was taken");
    }
    pinned.key = cache_key(request, pinned.object, pinned.ref);
    tell(progress, what, true);
    return pinned;
}

Result<std::string> GitSource::bare_repository(const GitRequest& request, const Git& git, sys::FileLock& lock,
                                               const Stop& stop) {
    const sys::RootedDir root = TRY(sys::RootedDir::open_host(store_.root()));
    TRY(root.make_dirs("git", 0700));
    const std::string name = codec::sha256_of(request.url.remote_without_credentials()).hex().substr(0, 32);
    const std::string path = store_.root() + "/git/" + name;
    lock = TRY(sys::FileLock::acquire(path + ".lock", sys::LockMode::exclusive, stop));
    if (!TRY(git.test({.git_dir = path}, {"rev-parse", "--git-dir"}, stop))) {
        TRY(root.remove_all("git/" + name));
        TRY(git.run({}, {"init", "-q", "--bare", "--", path}, stop));
        TRY(git.run({.git_dir = path}, {"config", "uploadpack.allowAnySHA1InWant", "true"}, stop));
    }
    return path;
}

namespace {

// Brings the commit into the bare repository, with as little history as the server lets us.
Result<> fetch_commit(const Git& git, const std::string& bare, const GitRequest& request, const GitPin& pinned,
                      const Stop& stop) {
    const Git::Place place{.git_dir = bare};
    const std::vector<std::string> has{"cat-file", "-e", pinned.commit + "^{commit}"};
    const std::vector<std::string> has_object{"cat-file", "-e", pinned.object};
    const auto there = [&]() -> Result<bool> {
        const bool commit = TRY(git.test(place, has, stop));
        return commit && TRY(git.test(place, has_object, stop));
    };
    if (TRY(there())) return {};
    const std::string remote = request.url.remote();
    const std::string keep = "refs/cooper/" + pinned.object;
    const std::string by_name = is_commit_id(pinned.ref) ? pinned.commit : pinned.ref;
    std::vector<std::vector<std::string>> tries{
        {"fetch", "-q", "-u", "--no-tags", "--force", "--depth=1", "--", remote, by_name + ":" + keep},
        {"fetch", "-q", "-u", "--no-tags", "--force", "--depth=1", "--", remote, pinned.commit + ":" + keep}};
    const bool shallow = access((bare + "/shallow").c_str(), F_OK) == 0;
    std::vector<std::string> all{"fetch", "-q", "-u", "--tags", "--force"};
    if (shallow) all.emplace_back("--unshallow");
    all.insert(all.end(), {"--", remote, "+refs/heads/*:refs/remotes/origin/*"});
    tries.push_back(std::move(all));
    std::optional<Error> first_error;
    for (const auto& args : tries) {
        const auto done = git.run(place, args, stop);
        if (!done && done.error().is_cancelled()) return done.error();
        if (!done && !first_error) first_error = done.error();
        if (TRY(there())) return {};
    }
    const std::string shown = request.url.remote_without_credentials();
    if (first_error) return first_error->with_context(shown);
    return fail(Code::not_found, Blame::user, "repository {} no longer has the commit {}", shown, pinned.commit)
        .with_hint("the branch was probably rewritten: build again");
}

Result<std::int64_t> time_of_commit(const Git& git, const std::string& bare, const std::string& commit,
                                    const Stop& stop) {
    const std::string time = TRY(git.run({.git_dir = bare}, {"show", "-s", "--format=%ct", commit}, stop));
    const auto seconds = parse_int(trim(time));
    if (!seconds) return fail(Code::internal, Blame::world, "git gives no time for commit {}", commit);
    return *seconds;
}

}  // namespace

Result<> GitSource::check_out(const Checkout& c, const Stop& stop) {
    const std::string& subdir = c.request.url.subdir;
    const bool submodules =
        !c.request.skip_submodules &&
        TRY(c.git.test({.git_dir = c.bare}, {"cat-file", "-e", c.pinned.commit + ":.gitmodules"}, stop));
    const bool keep = c.request.keep_git_dir && subdir.empty();
    if (!submodules && !keep) {
        // Straight from the shared repository into the layer; no ".git" ever exists there.
        const Git::Place place{.git_dir = c.bare, .work_tree = c.into_path, .index_file = c.scratch + "/index"};
        const std::string tree = subdir.empty() ? c.pinned.commit : c.pinned.commit + ":" + subdir;
        if (!subdir.empty() && TRY(c.git.run({.git_dir = c.bare}, {"cat-file", "-t", tree}, stop)) != "tree\n") {
            return bad_input("the repository has no directory {}", quoted(subdir))
                .with_hint("symbolic links are not followed there");
        }
        TRY(c.git.run(place, {"read-tree", tree}, stop));
        TRY(c.git.run(place, {"checkout-index", "-a", "-f", "-q"}, stop));
        return {};
    }
    const std::string work = keep ? c.into_path : c.scratch + "/work";
    if (!keep && mkdir(work.c_str(), 0755) != 0) return fail_errno(errno, "create " + work);
    const Git::Place place{.work_tree = work};
    // Without the templates of this machine: the directory is the same wherever it is made.
    TRY(c.git.run(place, {"init", "-q", "--template="}, stop));
    TRY(c.git.run(place, {"fetch", "-q", "-u", "--no-tags", "--depth=1", "--", "file://" + c.bare, c.pinned.object},
                  stop));
    if (keep && (c.pinned.ref.starts_with("refs/tags/") || c.pinned.ref.starts_with("refs/heads/"))) {
        TRY(c.git.run(place, {"update-ref", c.pinned.ref, c.pinned.object}, stop));
    }
    TRY(c.git.run(place, {"checkout", "-q", "-f", "--detach", c.pinned.commit}, stop));
    const std::string origin = submodules ? c.request.url.remote() : c.request.url.remote_without_credentials();
    TRY(c.git.run(place, {"remote", "add", "origin", origin}, stop));
    if (submodules) {
        TRY_CONTEXT(c.git.run(place, {"submodule", "update", "--init", "--recursive", "--depth=1"}, stop),
                    "submodules of {}", c.request.url.remote_without_credentials());
    }
    if (keep) {
        TRY(c.git.run(place, {"remote", "set-url", "origin", c.request.url.remote_without_credentials()}, stop));
        TRY(c.git.run(place, {"reflog", "expire", "--all", "--expire=now"}, stop));
        TRY(c.into.remove_all(".git/FETCH_HEAD"));
        return {};
    }
    const sys::RootedDir from = TRY(sys::RootedDir::open_host(work));
    TRY(remove_git_dirs(from.fd(), 0));
    const sys::Fd source = TRY(open_subdir(from, subdir));
    for (const sys::DirEntry& entry : TRY(sys::list_dir(source.get()))) {
        if (renameat(source.get(), entry.name.c_str(), c.into.fd(), entry.name.c_str()) != 0) {
            return fail_errno(errno, "move " + entry.name);
        }
    }
    return {};
}

Result<std::int64_t> GitSource::commit_time(const GitRequest& request, const GitPin& pinned, session::Session& session,
                                            VertexProgress* progress, const Stop& stop) {
    const auto access = TRY(open_access(request, session, stop));
    sys::FileLock lock;
    const std::string bare = TRY(bare_repository(request, access->git, lock, stop));
    const std::string what = "fetch " + request.url.remote_without_credentials() + " " + pinned.commit.substr(0, 12);
    tell(progress, what, false);
    TRY(fetch_commit(access->git, bare, request, pinned, stop));
    tell(progress, what, true);
    return time_of_commit(access->git, bare, pinned.commit, stop);
}

Result<store::Chain> GitSource::fetch(const GitRequest& request, const GitPin& pinned, session::Session& session,
                                      VertexProgress* progress, const Stop& stop) {
    const std::string shown = request.url.remote_without_credentials();
    const std::string fact = "git:" + shown + " " + pinned.key;
    if (const auto known = TRY(store_.fact(fact))) {
        if (const auto layer = parse_int(known->value)) {
            store::Chain chain{{*layer}};
            if (TRY(store_.hold(chain))) return chain;
        }
    }
    // What git writes counts against the cap of the state directory.
    const auto watch = store_.space().watch("the checkout of " + shown, {store_.root() + "/git"}, stop);
    auto chain = fetch_anew(request, pinned, session, progress, watch == nullptr ? stop : watch->stop());
    if (watch != nullptr && watch->refused()) return *watch->refused();
    if (chain) TRY(store_.set_fact(fact, std::to_string(chain->layers.front())));
    return chain;
}

Result<store::Chain> GitSource::fetch_anew(const GitRequest& request, const GitPin& pinned, session::Session& session,
                                           VertexProgress* progress, const Stop& stop) {
    const std::string shown = request.url.remote_without_credentials();
    const auto access = TRY(open_access(request, session, stop));
    sys::FileLock lock;
    const std::string bare = TRY(bare_repository(request, access->git, lock, stop));
    const std::string what = "fetch " + shown + " " + pinned.commit.substr(0, 12);
    tell(progress, what, false);
    TRY(fetch_commit(access->git, bare, request, pinned, stop));
    tell(progress, what, true);

    const sys::TempDir scratch = TRY(sys::TempDir::create(TRY(store_.scratch_dir()), "git-"));
    store::LayerDraft draft = TRY(store_.begin_layer());
    const sys::RootedDir into = TRY(draft.open());
    TRY_CONTEXT(check_out(Checkout{.request = request,
                                   .pinned = pinned,
                                   .git = access->git,
                                   .bare = bare,
                                   .into = into,
                                   .into_path = draft.host_path(),
                                   .scratch = scratch.path()},
                          stop),
                "check out {}", shown);
    if (request.mtime == GitMtime::commit) {
        TRY(set_times(into.fd(), TRY(time_of_commit(access->git, bare, pinned.commit, stop)), 0));
    }
    const store::LayerId layer = TRY(
        std::move(draft).commit(store::LayerInfo{.description = "git snapshot for " + shown + "#" + pinned.commit}));
    return store::Chain{{layer}};
}

}  // namespace cooper::source
