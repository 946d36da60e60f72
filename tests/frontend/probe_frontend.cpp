// A frontend for tests. It speaks the gateway's protocol over standard input and output, does what its option
// "build-arg:PROBE" says, and answers with an image that has one file, /report: what it saw. Options come as BuildKit's
// frontends get them, in BUILDKIT_FRONTEND_OPT_<n>=key=value.
//     probe_frontend --image FOLDER       copies itself and its libraries there, as the files of an image
//     probe_frontend --llb NAME           prints a definition: root, host, insecure, diff, build, loop, keys,
//     keys-of-build
#include "base/text.hpp"
#include "llb/marshal.hpp"
#include "llb/state.hpp"
#include "proto/gateway.grpc.pb.h"
#include "proto/status.pb.h"
#include "rpc/channel.hpp"
#include "rpc/joint.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <link.h>
#include <map>
#include <set>
#include <thread>
#include <unistd.h>

namespace wire = moby::buildkit::v1::frontend;
using namespace cooper;

extern char** environ;

namespace {

constexpr std::string_view kOption = "BUILDKIT_FRONTEND_OPT_";

[[noreturn]] void die(const std::string& why) {
    fmt::print(stderr, "{}\n", why);
    std::fflush(stderr);
    ::_exit(2);
}

template <class T>
T must(Result<T> result) {
    if (!result) die(result.error().to_string());
    return std::move(*result);
}

std::map<std::string, std::string> options_of_environment() {
    std::map<std::string, std::string> options;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text = *entry;
        if (!text.starts_with(kOption)) continue;
        const auto [number, pair] = cut(text, '=');
        if (!pair) continue;
        const auto [key, value] = cut(*pair, '=');
        options[std::string(key)] = std::string(value.value_or(""));
    }
    return options;
}

const llb::Platform& platform() {
    static const llb::Platform one = [] {
        llb::Platform it;
        it.os = "linux";
        it.architecture = "amd64";
        return it;
    }();
    return one;
}

std::string bytes_of(const llb::State& state) { return llb::marshal(must(llb::marshal_definition(state, platform()))); }

llb::State shell(const std::string& script, const std::function<void(llb::RunOptions&)>& change) {
    llb::RunOptions options;
    options.args = {"/bin/sh", "-c", script};
    change(options);
    return llb::image("docker.io/library/busybox:latest", {}).run(options);
}

std::string code_name(const grpc::Status& status) {
    static const std::map<int, std::string> names = {{0, "ok"},
                                                     {1, "cancelled"},
                                                     {2, "unknown"},
                                                     {3, "invalid_argument"},
                                                     {5, "not_found"},
                                                     {6, "already_exists"},
                                                     {7, "permission_denied"},
                                                     {8, "resource_exhausted"},
                                                     {9, "failed_precondition"},
                                                     {12, "unimplemented"},
                                                     {13, "internal"},
                                                     {14, "unavailable"}};
    const auto found = names.find(status.error_code());
    return found == names.end() ? std::to_string(status.error_code()) : found->second;
}

class Probe {
public:
    Probe(std::shared_ptr<grpc::Channel> channel, std::map<std::string, std::string> options)
        : bridge_(wire::LLBBridge::NewStub(std::move(channel))), options_(std::move(options)) {}

    void run() {
        const std::string name = options_["build-arg:PROBE"];
        if (name == "crash") std::abort();
        if (name == "silent") return;
        if (name == "error") return answer_error();
        const std::map<std::string, void (Probe::*)()> probes = {
            {"greet", &Probe::greet},       {"files", &Probe::files},     {"container", &Probe::container},
            {"terminal", &Probe::terminal}, {"signals", &Probe::signals}, {"rights", &Probe::rights},
            {"nested", &Probe::nested},     {"hostile", &Probe::hostile}, {"inputs", &Probe::inputs},
            {"state", &Probe::state},
        };
        const auto found = probes.find(name);
        if (found == probes.end()) die("no probe " + name);
        (this->*found->second)();
        answer();
    }

private:
    template <class Request, class Response>
    grpc::Status call(grpc::Status (wire::LLBBridge::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                      const Request& request, Response& response) {
        grpc::ClientContext context;
        return (bridge_.get()->*method)(&context, request, &response);
    }
    template <class Request, class Response>
    Response ask(grpc::Status (wire::LLBBridge::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                 const Request& request) {
        Response response;
        const grpc::Status status = call(method, request, response);
        if (!status.ok()) die(fmt::format("{}: {}", code_name(status), status.error_message()));
        return response;
    }
    void tell(const std::string& what, const std::string& value) { report_ += fmt::format("{}: {}\n", what, value); }
    void tell(const std::string& what, const grpc::Status& status) { tell(what, code_name(status)); }

    std::string solve(const llb::State& state) {
        wire::SolveRequest request;
        request.set_definition(bytes_of(state));
        request.set_allowresultreturn(true);
        request.set_evaluate(true);
        return ask(&wire::LLBBridge::Stub::Solve, request).result().ref().id();
    }
    grpc::Status try_solve(const llb::State& state) {
        wire::SolveRequest request;
        request.set_definition(bytes_of(state));
        request.set_allowresultreturn(true);
        request.set_evaluate(true);
        wire::SolveResponse response;
        return call(&wire::LLBBridge::Stub::Solve, request, response);
    }

    void answer() {
        llb::FileActions actions;
        actions.mkfile("/report", 0644, report_, std::nullopt, std::nullopt);
        wire::SolveRequest request;
        request.set_definition(bytes_of(llb::scratch().file(std::move(actions), {})));
        request.set_allowresultreturn(true);
        wire::ReturnRequest answer;
        *answer.mutable_result() = ask(&wire::LLBBridge::Stub::Solve, request).result();
        *answer.mutable_result()->mutable_attestations() = attestations_;
        static_cast<void>(ask(&wire::LLBBridge::Stub::Return, answer));
        wire::ReturnResponse nothing;
        if (call(&wire::LLBBridge::Stub::Return, answer, nothing).ok()) die("a second answer was taken");
    }
    void answer_error() {
        wire::ReturnRequest answer;
        answer.mutable_error()->set_code(grpc::INVALID_ARGUMENT);
        answer.mutable_error()->set_message("the probe does not like line 7");
        static_cast<void>(ask(&wire::LLBBridge::Stub::Return, answer));
    }

    void greet() {
        const auto pong = ask(&wire::LLBBridge::Stub::Ping, wire::PingRequest());
        const auto has = [](const auto& caps, const std::string& id) {
            return std::ranges::any_of(caps, [&](const auto& cap) { return cap.id() == id && cap.enabled(); });
        };
        tell("gateway.exec", has(pong.frontendapicaps(), "gateway.exec") ? "yes" : "no");
        tell("mergeop", has(pong.llbcaps(), "mergeop") ? "yes" : "no");
        tell("workers", std::to_string(pong.workers_size()));
        tell("word", options_["build-arg:WORD"]);
        tell("product", std::getenv("BUILDKIT_EXPORTEDPRODUCT") != nullptr ? "yes" : "no");
        tell("inputs", std::to_string(ask(&wire::LLBBridge::Stub::Inputs, wire::InputsRequest()).definitions_size()));
        wire::ResolveImageConfigRequest image;
        image.set_ref("docker.io/library/busybox:latest");
        const auto config = ask(&wire::LLBBridge::Stub::ResolveImageConfig, image);
        tell("config", config.config().contains("\"rootfs\"") ? "yes" : "no");
        wire::WarnRequest warning;
        warning.set_digest("sha256:" + std::string(64, 'a'));
        warning.set_level(1);
        warning.set_short_("the probe warns of nothing");
        static_cast<void>(ask(&wire::LLBBridge::Stub::Warn, warning));
    }

    void files() {
        const std::string ref = solve(
            shell("mkdir -p /d; echo 0123456789 > /d/a; echo b > /d/b; ln -s a /d/link", [](llb::RunOptions&) {}));
        wire::ReadFileRequest file;
        file.set_ref(ref);
        file.set_filepath("/d/link");
        file.mutable_range()->set_offset(2);
        file.mutable_range()->set_length(3);
        tell("range", ask(&wire::LLBBridge::Stub::ReadFile, file).data());
        wire::ReadDirRequest folder;
        folder.set_ref(ref);
        folder.set_dirpath("/d");
        std::string names;
        const auto all = ask(&wire::LLBBridge::Stub::ReadDir, folder);
        for (const auto& entry : all.entries()) names += entry.path() + " ";
        tell("folder", names);
        folder.set_includepattern("?");
        names.clear();
        const auto some = ask(&wire::LLBBridge::Stub::ReadDir, folder);
        for (const auto& entry : some.entries()) names += entry.path() + " ";
        tell("pattern", names);
        wire::StatFileRequest stat;
        stat.set_ref(ref);
        stat.set_path("d/a");
        const auto found = ask(&wire::LLBBridge::Stub::StatFile, stat).stat();
        tell("stat", fmt::format("{} {} bytes mode {:o}", found.path(), found.size(), found.mode()));
        wire::ReadFileResponse data;
        file.set_filepath("/none");
        tell("missing", call(&wire::LLBBridge::Stub::ReadFile, file, data));
        file.set_filepath("/d");
        tell("directory", call(&wire::LLBBridge::Stub::ReadFile, file, data));
        file.set_filepath("../../../../../../etc/hostname");
        file.clear_range();
        tell("escape", call(&wire::LLBBridge::Stub::ReadFile, file, data));
        file.set_filepath("/d/a");
        file.mutable_range()->set_offset(-1);
        tell("negative", call(&wire::LLBBridge::Stub::ReadFile, file, data));
        file.set_ref("no such ref");
        tell("unknown ref", call(&wire::LLBBridge::Stub::ReadFile, file, data));
    }

    // --- containers

    grpc::Status new_container(const std::string& id, const std::string& ref, pb::NetMode network) {
        wire::NewContainerRequest request;
        request.set_containerid(id);
        request.set_network(network);
        auto& root = *request.add_mounts();
        root.set_dest("/");
        root.set_resultid(ref);
        wire::NewContainerResponse response;
        return call(&wire::LLBBridge::Stub::NewContainer, request, response);
    }
    static wire::ExecMessage start_of(const std::string& process, const std::string& container,
                                      const std::string& script) {
        wire::ExecMessage message;
        message.set_processid(process);
        auto& init = *message.mutable_init();
        init.set_containerid(container);
        for (const std::string& arg : {std::string("/bin/sh"), std::string("-c"), script})
            init.mutable_meta()->add_args(arg);
        init.mutable_meta()->add_env("PATH=/bin");
        init.mutable_meta()->set_cwd("/");
        for (const unsigned fd : {0U, 1U, 2U}) init.add_fds(fd);
        return message;
    }

    // One call of ExecProcess with everything that its processes say.
    class Exec {
    public:
        explicit Exec(wire::LLBBridge::Stub& bridge) : stream_(bridge.ExecProcess(&context_)) {}
        void send(const wire::ExecMessage& message) { stream_->Write(message); }
        void input(const std::string& process, const std::string& text, bool end) {
            wire::ExecMessage message;
            message.set_processid(process);
            message.mutable_file()->set_data(text);
            message.mutable_file()->set_eof(end);
            send(message);
        }
        // Reads on until this process has said it.
        bool wait_for(const std::string& process, const std::string& text) {
            while (!said[process].contains(text)) {
                if (!read()) return false;
            }
            return true;
        }
        void read_until_done(const std::string& process) {
            while (!done.contains(process) && read()) {
            }
        }
        grpc::Status finish() {
            stream_->WritesDone();
            while (read()) {
            }
            return stream_->Finish();
        }
        std::map<std::string, std::string> said;
        std::map<std::string, int> codes;
        std::map<std::string, std::string> order;
        std::set<std::string> done;

    private:
        bool read() {
            wire::ExecMessage message;
            if (!stream_->Read(&message)) return false;
            const std::string& id = message.processid();
            if (message.has_started()) order[id] += "started ";
            if (message.has_file()) {
                said[id] += message.file().data();
                if (message.file().eof()) order[id] += fmt::format("end{} ", message.file().fd());
            }
            if (message.has_exit()) {
                order[id] += "exit ";
                codes[id] = static_cast<int>(message.exit().code());
            }
            if (message.has_done()) {
                order[id] += "done";
                done.insert(id);
            }
            return true;
        }
        grpc::ClientContext context_;
        std::unique_ptr<grpc::ClientReaderWriter<wire::ExecMessage, wire::ExecMessage>> stream_;
    };

    std::string busybox() { return solve(llb::image("docker.io/library/busybox:latest", {})); }

    void container() {
        const std::string ref = busybox();
        tell("created", new_container("box", ref, pb::UNSET));
        tell("created again", new_container("box", ref, pb::UNSET));
        Exec exec(*bridge_);
        exec.send(start_of("init", "box", "read word; echo \"got $word\"; echo kept > /kept; cat > /dev/null; exit 7"));
        exec.input("init", "ink\n", false);
        exec.wait_for("init", "got ink");
        exec.send(
            start_of("second", "box", "for i in $(seq 100); do [ -e /kept ] && break; sleep 0.1; done; cat /kept"));
        exec.read_until_done("second");
        tell("second", exec.said["second"] + fmt::format("exit {}", exec.codes["second"]));
        wire::ReadFileRequest file;
        file.set_ref("box");
        file.set_filepath("/kept");
        tell("file", ask(&wire::LLBBridge::Stub::ReadFileContainer, file).data());
        wire::StatFileRequest stat;
        stat.set_ref("box");
        stat.set_path("/kept");
        tell("stat", std::to_string(ask(&wire::LLBBridge::Stub::StatFileContainer, stat).stat().size()));
        wire::ReadDirRequest folder;
        folder.set_ref("box");
        folder.set_dirpath("/");
        folder.set_includepattern("kept");
        tell("folder", std::to_string(ask(&wire::LLBBridge::Stub::ReadDirContainer, folder).entries_size()));
        // The end of the first process is that of the others.
        exec.send(start_of("third", "box", "echo here; sleep 1000"));
        exec.wait_for("third", "here");
        exec.input("init", "", true);
        exec.read_until_done("init");
        exec.read_until_done("third");
        tell("init", exec.said["init"] + fmt::format("exit {}", exec.codes["init"]));
        tell("init said", exec.order["init"]);
        tell("third", exec.codes["third"] == 0 ? "ended by itself" : "was ended");
        tell("exec", exec.finish());
        wire::ReleaseContainerRequest release;
        release.set_containerid("box");
        wire::ReleaseContainerResponse released;
        tell("released", call(&wire::LLBBridge::Stub::ReleaseContainer, release, released));
        tell("released again", call(&wire::LLBBridge::Stub::ReleaseContainer, release, released));
    }

    void terminal() {
        tell("created", new_container("box", busybox(), pb::UNSET));
        Exec exec(*bridge_);
        wire::ExecMessage start =
            start_of("tty", "box", "test -t 0 && echo terminal; read line; stty size; echo \"line $line\"");
        start.mutable_init()->set_tty(true);
        exec.send(start);
        exec.wait_for("tty", "terminal");
        wire::ExecMessage resize;
        resize.set_processid("tty");
        resize.mutable_resize()->set_rows(40);
        resize.mutable_resize()->set_cols(121);
        exec.send(resize);
        exec.input("tty", "hello\n", false);
        exec.read_until_done("tty");
        tell("exec", exec.finish());
        tell("size", exec.said["tty"].contains("40 121") ? "40 121" : exec.said["tty"]);
        tell("line", exec.said["tty"].contains("line hello") ? "hello" : exec.said["tty"]);
    }

    void signals() {
        tell("created", new_container("box", busybox(), pb::UNSET));
        Exec exec(*bridge_);
        exec.send(
            start_of("one", "box", "trap 'echo caught; exit 9' USR1; echo ready; while true; do sleep 0.1; done"));
        exec.wait_for("one", "ready");
        wire::ExecMessage message;
        message.set_processid("one");
        message.mutable_signal()->set_name("NONSENSE");
        exec.send(message);
        message.mutable_signal()->set_name("USR1");
        exec.send(message);
        exec.read_until_done("one");
        tell("caught", exec.said["one"].contains("caught") ? "yes" : "no");
        tell("exit", std::to_string(exec.codes["one"]));
        tell("exec", exec.finish());
    }

    void rights() {
        tell("solve with the host's network",
             try_solve(shell("true", [](llb::RunOptions& options) { options.network = llb::NetMode::host; })));
        tell(
            "solve without a sandbox",
            try_solve(shell("true", [](llb::RunOptions& options) { options.security = llb::SecurityMode::insecure; })));
        const std::string ref = busybox();
        // Either the container or its process is refused.
        for (const bool insecure : {false, true}) {
            const std::string id = insecure ? "insecure" : "host";
            grpc::Status status = new_container(id, ref, insecure ? pb::UNSET : pb::HOST);
            if (status.ok()) {
                Exec exec(*bridge_);
                wire::ExecMessage start = start_of("p", id, "echo it runs");
                if (insecure) start.mutable_init()->set_security(pb::INSECURE);
                exec.send(start);
                exec.read_until_done("p");
                const grpc::Status end = exec.finish();
                status = exec.said["p"].contains("it runs") ? grpc::Status::OK
                         : end.ok()                         ? grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "")
                                                            : end;
            }
            tell("container " + id, status);
        }
    }

    void nested() {
        wire::SolveRequest request;
        request.set_frontend("dockerfile.v0");
        (*request.mutable_frontendopt())["filename"] = "Other";
        request.set_allowresultreturn(true);
        request.set_evaluate(true);
        const auto result = ask(&wire::LLBBridge::Stub::Solve, request).result();
        wire::ReadFileRequest file;
        file.set_ref(result.ref().id());
        file.set_filepath("/word");
        tell("word", ask(&wire::LLBBridge::Stub::ReadFile, file).data());
        tell("config", result.metadata().contains("containerimage.config") ? "yes" : "no");
        request.set_frontend("nonsense.v9");
        wire::SolveResponse response;
        tell("unknown frontend", call(&wire::LLBBridge::Stub::Solve, request, response));
        request.set_frontend("dockerfile.v0");
        (*request.mutable_frontendopt())["requestid"] = "frontend.dance";
        const grpc::Status refused = call(&wire::LLBBridge::Stub::Solve, request, response);
        tell("unknown question", refused);
        google::rpc::Status details;
        if (!details.ParseFromString(refused.error_details())) die("details");
        for (const auto& detail : details.details()) tell(detail.type_url(), detail.value());
    }

    // Statements of the result: a predicate, one that is not for archives, and a directory of whole ones. CASE is a
    // mistake to make with them.
    void state() {
        const std::string mistake = options_["build-arg:CASE"];
        llb::FileActions files;
        const auto file = [&](const std::string& path, const std::string& text) {
            files.mkfile(path, 0644, text, std::nullopt, std::nullopt);
        };
        file("/poem.json", mistake == "no-json" ? "{" : R"({"lines": 14})");
        files.mkdir("/all", 0755, true, std::nullopt, std::nullopt);
        const std::string type =
            mistake == "bundled-provenance" ? "https://slsa.dev/provenance/v1" : "https://x.test/song";
        file("/all/song.json",
             R"({"_type":"https://in-toto.io/Statement/v0.1","predicateType":")" + type +
                 R"(","subject":[{"name":"tune","digest":{"sha1":"abc"}}],"predicate":{"bars":[8]}})");
        file("/all/sbom.spdx.json",
             R"({"predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","name":"theirs"}})");
        const std::string ref = solve(llb::scratch().file(std::move(files), {}));
        auto& said = attestations_[mistake == "no-result" ? "linux/s390x" : "linux/amd64"];
        if (mistake == "no-result") attestations_["linux/amd64"];
        const auto add = [&](wire::AttestationKind kind, const std::string& path, const std::string& predicate) {
            auto& one = *said.add_attestation();
            one.set_kind(kind);
            one.mutable_ref()->set_id(ref);
            one.set_path(path);
            one.set_intotopredicatetype(predicate);
            return &one;
        };
        auto* poem = add(wire::InToto, mistake == "missing" ? "none.json" : "poem.json",
                         mistake == "provenance" ? "https://slsa.dev/provenance/v1" : "https://x.test/poem");
        poem->add_intotosubjects()->set_name("further");
        auto& other = *poem->add_intotosubjects();
        other.set_kind(wire::Raw);
        other.set_name("other");
        other.add_digest("sha512:0123");
        (*add(wire::InToto, "/poem.json", "https://x.test/inline")->mutable_metadata())["inline-only"] = "true";
        (*add(wire::Bundle, "all", mistake == "wrong-bundle" ? "https://x.test/poem" : "")
              ->mutable_metadata())["sbom-core"] = "sbom";
    }

    // A Dockerfile and a context that are results, not directories of the client.
    void inputs() {
        llb::FileActions dockerfile;
        dockerfile.mkfile("/Dockerfile", 0644, "FROM scratch\nCOPY made /word\n", std::nullopt, std::nullopt);
        llb::FileActions context;
        context.mkfile("/made", 0644, "of inputs", std::nullopt, std::nullopt);
        context.mkfile("/.dockerignore", 0644, "made", std::nullopt, std::nullopt);  // for directories only
        wire::SolveRequest request;
        request.set_frontend("dockerfile.v0");
        request.set_allowresultreturn(true);
        auto& inputs = *request.mutable_frontendinputs();
        const auto add = [&](const std::string& name, llb::FileActions actions) {
            inputs[name] = bytes_of(llb::scratch().file(std::move(actions), {}));
        };
        add("dockerfile", std::move(dockerfile));
        add("context", std::move(context));
        const auto result = ask(&wire::LLBBridge::Stub::Solve, request).result();
        wire::ReadFileRequest file;
        file.set_ref(result.ref().id());
        file.set_filepath("/word");
        tell("word", ask(&wire::LLBBridge::Stub::ReadFile, file).data());
    }

    void hostile() {
        wire::SolveRequest solve;
        solve.set_allowresultreturn(true);
        wire::SolveResponse solved;
        solve.set_definition("\xff\xff garbage");
        tell("garbage", call(&wire::LLBBridge::Stub::Solve, solve, solved));
        pb::Definition definition;
        pb::Op op;
        op.add_inputs()->set_digest("sha256:" + std::string(64, 'b'));
        definition.add_def(op.SerializeAsString());
        solve.set_definition(definition.SerializeAsString());
        tell("input that is not there", call(&wire::LLBBridge::Stub::Solve, solve, solved));
        tell("unknown network", new_container("n", busybox(), static_cast<pb::NetMode>(77)));
        wire::NewContainerRequest rootless;
        rootless.set_containerid("r");
        wire::NewContainerResponse created;
        tell("no root", call(&wire::LLBBridge::Stub::NewContainer, rootless, created));
        rootless.add_mounts()->set_dest("/");
        rootless.mutable_mounts(0)->set_resultid("never heard of");
        tell("unknown result", call(&wire::LLBBridge::Stub::NewContainer, rootless, created));
        Exec exec(*bridge_);
        exec.send(start_of("p", "no such container", "true"));
        tell("no container", exec.finish());
        Exec orphan(*bridge_);
        orphan.input("nobody", "text", true);
        tell("no process", orphan.finish());
        wire::StatFileRequest stat;
        stat.set_ref("box");
        stat.set_mountindex(-3);
        wire::StatFileResponse found;
        tell("negative mount", call(&wire::LLBBridge::Stub::StatFileContainer, stat, found));
        wire::WarnRequest warning;
        warning.set_digest("nonsense");
        wire::WarnResponse nothing;
        tell("warning of nothing", call(&wire::LLBBridge::Stub::Warn, warning, nothing));
        wire::ReturnRequest answer;
        answer.mutable_result()->mutable_ref()->set_id("another's");
        wire::ReturnResponse taken;
        tell("another's result", call(&wire::LLBBridge::Stub::Return, answer, taken));
    }

    std::unique_ptr<wire::LLBBridge::Stub> bridge_;
    std::map<std::string, std::string> options_;
    std::string report_;
    google::protobuf::Map<std::string, wire::Attestations> attestations_;
};

// What the dynamic linker has loaded for this process is what it needs elsewhere.
void write_image(const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    std::set<fs::path> files;
    // By the names under which they are looked for.
    const auto take = [](dl_phdr_info* library, std::size_t /*size*/, void* into) {
        if (std::string_view(library->dlpi_name).starts_with('/'))
            static_cast<std::set<fs::path>*>(into)->insert(library->dlpi_name);
        return 0;
    };
    ::dl_iterate_phdr(take, &files);
    for (const char* name : {"lib", "lib64"}) fs::create_directories(folder / name);
    for (const fs::path& file : files) {
        const bool is_linker = file.filename().string().starts_with("ld-");
        fs::copy_file(file, folder / (is_linker ? "lib64" : "lib") / file.filename(),
                      fs::copy_options::overwrite_existing);
    }
    fs::copy_file(fs::read_symlink("/proc/self/exe"), folder / "run", fs::copy_options::overwrite_existing);
}

// Of "word\n".
constexpr const char* kWordDigest = "sha256:5aacc8534b465aea630b759f2becac7ae3a8c1bfaf271ca0425b8dd44bf99c56";

llb::State file_of(const std::string& path, const std::string& data) {
    llb::FileActions actions;
    actions.mkfile(path, 0644, data, {}, {});
    return llb::scratch().file(std::move(actions), {});
}

// What one container has and the other has not, as its own tree and put on a third.
llb::State difference() {
    const llb::State one = shell(
        "mkdir -p /t/d && cd /t && echo same > same && echo old > changed && echo gone > gone && "
        "ln -s same link && mkdir was-dir && echo x > was-dir/x && echo y > was-file && "
        "touch -h -d @1000000000 same link d",
        [](llb::RunOptions&) {});
    const llb::State two = shell(
        "mkdir -p /t/d && cd /t && echo same > same && echo new > changed && "
        "ln -s same link && echo z > was-dir && mkdir was-file && echo w > was-file/w && "
        "echo deep > d/deep && ln d/deep hard && chmod 4711 changed && "
        "touch -h -d @1000000000 same link",
        [](llb::RunOptions&) {});
    const llb::State difference = llb::diff(one, two, {});
    llb::FileActions keep;
    llb::CopyOptions contents;
    contents.dir_contents_only = true;
    keep.copy(difference, "/t", "/alone", contents);
    keep.copy(llb::merge({one, difference}, {}), "/t", "/merged", contents);
    return llb::scratch().file(std::move(keep), {});
}

// A build operation in a build operation, the inner definition made by a step; or one that waits for itself.
llb::State nested(bool loop) {
    const llb::State inner = shell("echo nested > /word", [](llb::RunOptions&) {});
    if (!loop) {
        const llb::State middle = llb::build(file_of("/llb.pb", bytes_of(inner)), "llb.pb", {});
        return llb::build(file_of("/buildkit.llb.definition", bytes_of(middle)), "", {});
    }
    // The file is of the client's, so it can hold a definition that has the very same operation.
    return llb::build(llb::local("context", {}), "loop.pb", {});
}

// Operations of all kinds that need no container, each with something of its own (tests/keys). Where the sources are is
// in the environment.
llb::State all_kinds() {
    const auto given = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value == nullptr ? "" : value);
    };
    std::vector<llb::State> all;
    const auto http = [&](const std::function<void(llb::HttpOptions&)>& change) {
        llb::HttpOptions options;
        change(options);
        all.push_back(llb::http(given("HTTP") + "/word.txt", options));
    };
    http([](llb::HttpOptions&) {});
    http([](llb::HttpOptions& options) { options.filename = "other"; });
    http([](llb::HttpOptions& options) { options.checksum = kWordDigest; });
    http([](llb::HttpOptions& options) {
        options.perm = 0755;
        options.uid = 3;
        options.gid = 4;
    });
    const auto git = [&](const std::function<void(llb::GitOptions&)>& change) {
        llb::GitOptions options;
        change(options);
        all.push_back(llb::git(given("GIT"), options));
    };
    git([](llb::GitOptions&) {});
    git([](llb::GitOptions& options) { options.ref = "side"; });
    git([](llb::GitOptions& options) { options.ref = "v1"; });
    git([](llb::GitOptions& options) { options.ref = "v2"; });
    git([](llb::GitOptions& options) { options.subdir = "sub"; });
    git([&](llb::GitOptions& options) { options.ref = given("COMMIT"); });
    git([&](llb::GitOptions& options) {
        options.ref = "v2";
        options.checksum = given("COMMIT");
    });
    llb::OciLayoutOptions layout;
    layout.store_id = "layout";
    all.push_back(llb::oci_layout("word.example/word@" + given("IMAGE"), layout));
    all.push_back(llb::local("context", {.include_patterns = {"d"}}));

    llb::FileActions make;
    make.mkdir("/d/e", 0700, true, llb::Owner::ids(1, 2), {});
    make.mkfile("/d/a", 04640, "a", {}, 1'000'000'000'000'000'000);
    make.mkfile("/d/gone", 0644, "", llb::Owner::ids(5, 6), {});
    make.symlink("/d/a", "/link", {}, {});
    const llb::State lower = llb::scratch().file(std::move(make), {});
    llb::FileActions change;
    change.rm("/d/gone", false, false);
    change.rm("/d/n*", true, true);
    change.mkfile("/d/b", 0600, "b", {}, {});
    const llb::State upper = lower.file(std::move(change), {});
    all.push_back(upper);
    all.push_back(llb::diff(lower, upper, {}));
    all.push_back(llb::diff(llb::scratch(), upper, {}));
    all.push_back(llb::diff(lower, all.front(), {}));
    all.push_back(llb::merge({lower, llb::diff(lower, upper, {})}, {}));
    all.push_back(llb::merge({all.front(), upper, lower}, {}));

    llb::FileActions collect;
    for (std::size_t i = 0; i < all.size(); ++i) {
        llb::CopyOptions options;
        options.dir_contents_only = options.create_dest_path = true;
        if (i % 3 == 1) options.owner = llb::Owner::ids(7, static_cast<std::uint32_t>(i));
        if (i % 3 == 2) options.mode = 0750;
        collect.copy(all[i], "/", "/all/" + std::to_string(i) + "/", options);
    }
    // With its repository, of which no two are the same.
    llb::GitOptions kept;
    kept.keep_git_dir = true;
    collect.copy(llb::git(given("GIT"), kept), "/f", "/kept", {});
    return llb::scratch().file(std::move(collect), {});
}

void print_definition(const std::string& name) {
    if (name == "keys" || name == "keys-of-build") {
        const std::string bytes = bytes_of(
            name == "keys" ? all_kinds()
                           : llb::build(file_of("/llb.pb", bytes_of(file_of("/word", "nested"))), "llb.pb", {}));
        std::fwrite(bytes.data(), 1, bytes.size(), stdout);
        return;
    }
    if (name == "diff" || name == "build" || name == "loop") {
        const std::string bytes = bytes_of(name == "diff" ? difference() : nested(name == "loop"));
        std::fwrite(bytes.data(), 1, bytes.size(), stdout);
        return;
    }
    const llb::State state = shell("echo from raw LLB > /word", [&](llb::RunOptions& options) {
        if (name == "host") options.network = llb::NetMode::host;
        if (name == "insecure") options.security = llb::SecurityMode::insecure;
    });
    const std::string bytes = bytes_of(state);
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> args(argv + 1, argv + argc);
    if (args.size() == 2 && args[0] == "--image") {
        write_image(args[1]);
        return 0;
    }
    if (args.size() == 2 && args[0] == "--llb") {
        print_definition(args[1]);
        return 0;
    }
    rpc::start_library();
    const auto joint = must(rpc::Joint::create(must(rpc::carry_in_files(sys::Fd(::dup(0)), sys::Fd(::dup(1))))));
    {
        Probe probe(rpc::channel_over(joint->take_socket()), options_of_environment());
        std::jthread carry([&] { joint->run(); });
        probe.run();
        joint->close();
    }
    return 0;
}
