// FakeExecutor: a table from arguments to effects, for tests without containers. The effect works on
// the root given as a host path (overlays: their upper directory).
#pragma once

#include "base/guarded.hpp"
#include "run/executor.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace cooper::run {

class FakeExecutor final : public Executor {
public:
    struct Context {
        const ProcessSpec& spec;
        std::string root_host_path;
        const Streams& streams;
        Stop stop;
    };
    using Effect = std::function<int(const Context&)>;  // the exit code

    // Matches all args joined by spaces. Unknown commands end with 127.
    void on(std::string command, Effect effect);
    // The commands run so far, in order.
    [[nodiscard]] std::vector<std::string> history();

    Result<Exit> run(const ProcessSpec& spec, const Streams& streams, const Stop& stop) override;
    void warm_up(NetworkMode /*mode*/) override {}
    std::string describe() override { return "fake"; }

private:
    struct State {
        std::map<std::string, Effect> effects;
        std::vector<std::string> history;
    };
    Guarded<State> state_;
};

}  // namespace cooper::run
