#include "run/fake_executor.hpp"

#include "base/text.hpp"

namespace cooper::run {

void FakeExecutor::on(std::string command, Effect effect) {
    state_.lock()->effects[std::move(command)] = std::move(effect);
}

std::vector<std::string> FakeExecutor::history() { return state_.lock()->history; }

Result<Exit> FakeExecutor::run(const ProcessSpec& spec, const Streams& streams, const Stop& stop) {
    TRY(check_stop(stop));
    const std::string command = join(spec.args, " ");
    Effect effect;
    {
        auto state = state_.lock();
        state->history.push_back(command);
        const auto found = state->effects.find(command);
        if (found != state->effects.end()) effect = found->second;
    }
    Exit exit;
    if (!effect) {
        exit.status.code = 127;
        return exit;
    }
    const auto* overlay = std::get_if<sys::OverlayPlan>(&spec.root);
    const std::string root = overlay != nullptr ? overlay->upper : std::get<HostTree>(spec.root).host_path;
    exit.status.code = effect({spec, root, streams, stop});
    TRY(check_stop(stop));
    return exit;
}

}  // namespace cooper::run
