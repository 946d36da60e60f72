#include "daemon/source_judge.hpp"

#include "base/text.hpp"
#include "daemon/wire.hpp"
#include "proto/policysession.pb.h"
#include "rpc/message_stream.hpp"

#include <chrono>

namespace cooper::daemon {

namespace {

namespace gateway = moby::buildkit::v1::frontend;
namespace policy = moby::buildkit::v1::sourcepolicy;

constexpr int kMaxRounds = 10;  // of questions about one source, and of conversions of it
constexpr std::chrono::minutes kPatience{5};
constexpr const char* kMethod = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";

bool is_same(const pb::SourceOp& asked, const llb::SourceOp& source) {
    return asked.identifier() == source.identifier &&
           std::map<std::string, std::string>(asked.attrs().begin(), asked.attrs().end()) == source.attrs;
}

Result<> add_facts(const gateway::ResolveSourceMetaRequest& wanted, const llb::SourceOp& source,
                   const llb::Platform& platform, engine::SourceFacts& facts, const Stop& stop,
                   gateway::ResolveSourceMetaResponse& out) {
    if (!is_same(wanted.source(), source)) {
        return bad_input("the policy asks for {}, not for {}", quoted(wanted.source().identifier()),
                         quoted(source.identifier));
    }
    const llb::Platform of = wanted.has_platform() ? from_message(wanted.platform()) : platform;
    if (const std::string_view scheme = "docker-image://"; source.identifier.starts_with(scheme)) {
        const auto image =
            TRY(facts.image(source.identifier.substr(scheme.size()), of, to_resolve_mode(wanted.resolvemode()), stop));
        out.mutable_image()->set_digest(image.digest.to_string());
        if (!wanted.image().noconfig()) out.mutable_image()->set_config(image.config_json);
        return {};
    }
    to_message(source.identifier, TRY(facts.other(source, stop)), out);
    return {};
}

class ClientJudge final : public engine::SourceJudge {
public:
    explicit ClientJudge(std::shared_ptr<RemoteSession> client) : client_(std::move(client)) {}

    Result<bool> judge(llb::SourceOp& source, const llb::Platform& platform, engine::SourceFacts& facts,
                       Stop stop) override {
        policy::policysession::CheckPolicyRequest question;
        to_message(platform, *question.mutable_platform());
        bool changed = false;
        for (int round = 0; round < kMaxRounds; ++round) {
            to_message(source, *question.mutable_source()->mutable_source());
            policy::policysession::CheckPolicyResponse answer;
            const std::string bytes =
                TRY_CONTEXT(rpc::ask(client_->channel(), {kMethod, question.SerializeAsString(), {}, kPatience}, stop),
                            "source policy of the client");
            if (!answer.ParseFromString(bytes)) return bad_input("the answer of the client's policy cannot be read");
            if (answer.has_request()) {
                question.clear_source();
                TRY_CONTEXT(add_facts(answer.request(), source, platform, facts, stop, *question.mutable_source()),
                            "error resolving source metadata from policy request");
                continue;
            }
            if (!answer.has_decision()) return bad_input("no decision in policy response");
            const auto& decision = answer.decision();
            if (decision.action() == policy::ALLOW) return changed;
            if (decision.action() != policy::CONVERT) return denied(source, decision);
            llb::SourceOp update = from_message(decision.update());
            if (update.identifier.empty())
                return bad_input("the policy converts {} to nothing", quoted(source.identifier));
            if (update == source) return changed;
            source = std::move(update);
            changed = true;
            question.clear_source();
        }
        return fail(Code::resource_exhausted, Blame::user, "too many policy requests about {}",
                    quoted(source.identifier));
    }

private:
    static Error denied(const llb::SourceOp& source, const policy::policysession::DecisionResponse& decision) {
        std::string reasons;
        for (const auto& one : decision.denymessages()) {
            if (one.message().empty()) continue;
            reasons += reasons.empty() ? ": " : ", ";
            reasons += one.message();
        }
        return fail(Code::permission_denied, Blame::user, "source {} not allowed by policy{}",
                    quoted(source.identifier), reasons);
    }

    std::shared_ptr<RemoteSession> client_;
};

}  // namespace

std::shared_ptr<engine::SourceJudge> make_client_judge(std::shared_ptr<RemoteSession> client) {
    return std::make_shared<ClientJudge>(std::move(client));
}

}  // namespace cooper::daemon
