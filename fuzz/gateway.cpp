// A frontend that asks nonsense, in a conversation without a network or an engine: every call has an answer, no result
// of nobody is found, processes end. Input: calls, each a byte that chooses the method, two with the length of its
// message, and the message.
#include "daemon/gateway.hpp"

#include "base/clock.hpp"
#include "daemon/call_watcher.hpp"
#include "daemon/conversations.hpp"
#include "daemon/detail/exec_stream.hpp"
#include "engine/local_job.hpp"
#include "filesync/local_tree.hpp"
#include "llb/load.hpp"
#include "rpc/channel.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <grpcpp/server_context.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace cooper;

namespace {

namespace wire = moby::buildkit::v1::frontend;

void check(bool condition) {
    if (!condition) std::abort();
}

Error nothing() { return fail(Code::not_found, Blame::user, "nothing is there"); }

snapshot::TreeRef some_files() {
    static const snapshot::TreeRef tree = [] {
        std::string path = "/tmp/fuzz-gateway-XXXXXX";
        check(::mkdtemp(path.data()) != nullptr);
        check(::mkdir((path + "/d").c_str(), 0755) == 0);
        check(::symlink("../../../../etc/passwd", (path + "/out").c_str()) == 0);
        const sys::Fd file(::open((path + "/d/a").c_str(), O_WRONLY | O_CREAT, 0644));
        check(sys::write_all(file.get(), std::string_view("0123456789")).has_value());
        return filesync::open_local_tree(path, {}).value();
    }();
    return tree;
}

class DeafBridge final : public frontend::Bridge {
public:
    Result<frontend::ResolvedImage> resolve_image_config(const std::string&, const llb::Platform&,
                                                         frontend::ResolveMode, const std::string&, Stop) override {
        return nothing();
    }
    Result<frontend::ResolvedImage> resolve_oci_layout(const frontend::OciLayout&, const llb::Platform&,
                                                       const std::string&, Stop) override {
        return nothing();
    }
    Result<std::vector<std::optional<std::string>>> read_local_files(const std::string&,
                                                                     const std::vector<std::string>&, std::size_t,
                                                                     const std::string&, Stop) override {
        return nothing();
    }
    Result<std::optional<std::string>> read_file_of(const llb::Definition&, const std::string&, std::size_t,
                                                    Stop) override {
        return nothing();
    }
    Result<std::optional<frontend::ContextStat>> stat_of(const llb::Definition&, const std::string&, Stop) override {
        return nothing();
    }
    Result<std::string> peek_http(const std::string&, std::size_t, Stop) override { return nothing(); }
};

class EmptyContainer final : public engine::Container {
public:
    explicit EmptyContainer(std::size_t mounts) : mounts_(mounts) {}
    Result<ExitStatus> run(const engine::ContainerProcess& process, Stop /*stop*/) override {
        check(!process.meta.args.empty());
        if (process.streams.output) process.streams.output(1, "output");
        return ExitStatus{.code = static_cast<int>(process.meta.args.size() % 3)};
    }
    Result<snapshot::TreeRef> tree(std::size_t mount, Stop /*stop*/) override {
        if (mount >= mounts_) return bad_input("no mount {}", mount);
        return some_files();
    }

private:
    std::size_t mounts_;
};

// Loads definitions as the engine does, and has the same files for all of them.
class FakeJob final : public engine::BuildJob {
public:
    const std::string& ref() const override { return ref_; }
    session::Session& session() override { return session_; }
    ProgressSink& progress() override { return progress_; }
    const Clock& clock() const override { return clock_; }
    Result<engine::FrontendResult> solve(const engine::SolveCall& call, Stop /*stop*/) override {
        for (const auto& [name, input] : call.inputs) TRY(llb::load(input));
        if (!call.definition) return nothing();
        llb::Graph graph = TRY(llb::load(*call.definition));
        engine::FrontendResult result;
        if (graph.target) {
            result.ref =
                std::make_shared<const engine::LazyResult>(*call.definition, std::move(graph), solver::Output());
        }
        return result;
    }
    Result<> evaluate(const engine::ResultRef& /*ref*/, Stop /*stop*/) override { return {}; }
    Result<snapshot::TreeRef> tree(const engine::ResultRef& /*ref*/, Stop /*stop*/) override { return some_files(); }
    llb::Definition definition(const engine::ResultRef& ref) const override {
        return ref == nullptr ? llb::Definition() : ref->definition();
    }
    frontend::Bridge& bridge() override { return bridge_; }
    Result<bool> permit(llb::SourceOp&, const std::optional<llb::Platform>&, const sourcepolicy::Policies&,
                        const Stop&) override {
        return false;
    }
    Result<engine::SourceMeta> resolve_source(const llb::SourceOp&, const std::string&, Stop) override {
        return engine::SourceMeta{.checksum = "c", .ref = "r"};
    }
    Result<std::unique_ptr<engine::Container>> start_container(engine::ContainerSpec spec, Stop /*stop*/) override {
        return std::unique_ptr<engine::Container>(std::make_unique<EmptyContainer>(spec.mounts.size()));
    }
    Result<engine::ExportAnswer> export_result(const engine::FrontendResult&, const std::vector<engine::ExportSpec>&,
                                               const std::vector<std::string>&, Stop) override {
        return nothing();
    }

private:
    std::string ref_ = "fuzz";
    session::Session session_;
    NullProgress progress_;
    SystemClock clock_;
    DeafBridge bridge_;
};

class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
    [[nodiscard]] bool empty() const { return rest_.empty(); }
    unsigned char byte() {
        if (rest_.empty()) return 0;
        const char first = rest_.front();
        rest_.remove_prefix(1);
        return static_cast<unsigned char>(first);
    }
    std::string_view message() {
        const std::size_t size = byte() | static_cast<std::size_t>(byte()) << 8U;
        const std::string_view out = rest_.substr(0, size);
        rest_.remove_prefix(out.size());
        return out;
    }

private:
    std::string_view rest_;
};

// The messages of one ExecProcess, until the input says that it has ended.
class ExecInput final : public daemon::detail::ExecMessages {
public:
    explicit ExecInput(Input& input) : input_(input) {}
    void SendInitialMetadata() override {}
    bool NextMessageSize(std::uint32_t* size) override {
        *size = 0;
        return true;
    }
    bool Read(wire::ExecMessage* message) override {
        if (input_.empty() || input_.byte() % 8 == 0) return false;
        const std::string_view bytes = input_.message();
        return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
    }
    bool Write(const wire::ExecMessage& message, grpc::WriteOptions /*options*/) override {
        check(message.ByteSizeLong() < std::size_t{1} << 24U);
        return true;
    }

private:
    Input& input_;
};

template <class Request, class Response>
void call(wire::LLBBridge::Service& service,
          grpc::Status (wire::LLBBridge::Service::*method)(grpc::ServerContext*, const Request*, Response*),
          std::string_view bytes) {
    Request request;
    if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
    Response response;
    grpc::ServerContext context;
    const grpc::Status status = (service.*method)(&context, &request, &response);
    check(status.ok() || status.error_code() != grpc::StatusCode::INTERNAL);
    static_cast<void>(response.SerializeAsString());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const daemon::Worker worker;
    static daemon::CallWatcher watcher;
    static daemon::Conversations conversations;
    rpc::start_library();
    FakeJob job;
    const auto conversation =
        std::make_shared<daemon::Conversation>(job, std::map<std::string, llb::Definition>{{"in", {}}});
    const auto made = daemon::make_gateway({conversations, watcher, worker}, conversation);
    auto& service = dynamic_cast<wire::LLBBridge::Service&>(*made);
    using Service = wire::LLBBridge::Service;
    Input input(data, size);
    for (int calls = 0; !input.empty() && calls < 50; ++calls) {
        const unsigned method = input.byte() % 17;
        if (method == 16) {
            ExecInput messages(input);
            static_cast<void>(daemon::detail::ExecStream(*conversation, messages).serve({}));
            continue;
        }
        const std::string_view bytes = input.message();
        switch (method) {
            case 0:
                call(service, &Service::Ping, bytes);
                break;
            case 1:
                call(service, &Service::Solve, bytes);
                break;
            case 2:
                call(service, &Service::Evaluate, bytes);
                break;
            case 3:
                call(service, &Service::ReadFile, bytes);
                break;
            case 4:
                call(service, &Service::ReadDir, bytes);
                break;
            case 5:
                call(service, &Service::StatFile, bytes);
                break;
            case 6:
                call(service, &Service::ResolveImageConfig, bytes);
                break;
            case 7:
                call(service, &Service::ResolveSourceMeta, bytes);
                break;
            case 8:
                call(service, &Service::Inputs, bytes);
                break;
            case 9:
                call(service, &Service::Return, bytes);
                break;
            case 10:
                call(service, &Service::Warn, bytes);
                break;
            case 11:
                call(service, &Service::NewContainer, bytes);
                break;
            case 12:
                call(service, &Service::ReleaseContainer, bytes);
                break;
            case 13:
                call(service, &Service::ReadFileContainer, bytes);
                break;
            case 14:
                call(service, &Service::ReadDirContainer, bytes);
                break;
            default:
                call(service, &Service::StatFileContainer, bytes);
                break;
        }
    }
    return 0;
}
