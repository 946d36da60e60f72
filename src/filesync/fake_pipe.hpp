// FakePipe: two PacketStreams back to back in memory. A side blocks when `capacity` messages wait at the other one.
// What is sent ahead is held back until there is something to send.
#pragma once

#include "base/guarded.hpp"
#include "filesync/packet_stream.hpp"

#include <algorithm>
#include <deque>
#include <iterator>
#include <memory>
#include <thread>

namespace cooper::filesync {

class FakePipe {
public:
    explicit FakePipe(std::size_t capacity)
        : left_(to_left_, to_right_, capacity), right_(to_right_, to_left_, capacity) {}
    [[nodiscard]] PacketStream& left() { return left_; }
    [[nodiscard]] PacketStream& right() { return right_; }

private:
    struct State {
        std::deque<std::string> messages;
        std::deque<std::string> ahead;
        bool closed = false;
        bool broken = false;
    };
    class Side final : public PacketStream {
    public:
        Side(Guarded<State>& in, Guarded<State>& out, std::size_t capacity) : in_(in), out_(out), capacity_(capacity) {}
        Result<> send(std::string_view message) override {
            auto state = out_.lock();
            state.wait([&] { return state->broken || state->messages.size() < capacity_; });
            if (state->broken || state->closed) return fail(Code::unavailable, Blame::world, "the pipe is broken");
            std::ranges::move(state->ahead, std::back_inserter(state->messages));
            state->ahead.clear();
            state->messages.emplace_back(message);
            out_.notify_all();
            return {};
        }
        Result<> send_ahead(std::string_view message) override {
            // Others get in between: whoever relies on their sending afterwards had better made sure of it.
            std::this_thread::yield();
            auto state = out_.lock();
            if (state->broken || state->closed) return fail(Code::unavailable, Blame::world, "the pipe is broken");
            state->ahead.emplace_back(message);
            return {};
        }
        Result<std::optional<std::string>> receive() override {
            auto state = in_.lock();
            state.wait([&] { return state->broken || state->closed || !state->messages.empty(); });
            if (!state->messages.empty()) {
                std::optional<std::string> message = std::move(state->messages.front());
                state->messages.pop_front();
                in_.notify_all();
                return message;
            }
            if (state->broken) return fail(Code::unavailable, Blame::world, "the pipe is broken");
            return std::optional<std::string>();
        }
        Result<> close_send() override {
            out_.lock()->closed = true;
            out_.notify_all();
            return {};
        }
        void cancel() override {
            for (Guarded<State>* state : {&in_, &out_}) {
                state->lock()->broken = true;
                state->notify_all();
            }
        }

    private:
        Guarded<State>& in_;
        Guarded<State>& out_;
        std::size_t capacity_;
    };

    Guarded<State> to_left_;
    Guarded<State> to_right_;
    Side left_;
    Side right_;
};

}  // namespace cooper::filesync
