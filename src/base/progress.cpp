#include "base/progress.hpp"

namespace cooper {

void VertexProgress::log(int stream, std::string data) {
    sink_.emit(LogEvent{.vertex = vertex_, .stream = stream, .data = std::move(data), .timestamp = clock_.now()});
}

void VertexProgress::status(std::string id, std::string name, std::int64_t current, std::int64_t total, bool done) {
    const Timestamp now = clock_.now();
    StatusEvent event{.id = std::move(id),
                      .vertex = vertex_,
                      .name = std::move(name),
                      .current = current,
                      .total = total,
                      .timestamp = now,
                      .started = now,
                      .completed = std::nullopt};
    if (done) event.completed = now;
    sink_.emit(std::move(event));
}

void VertexProgress::warn(WarningEvent warning) {
    warning.vertex = vertex_;
    sink_.emit(std::move(warning));
}

}  // namespace cooper
