// Queues: a stream of commands that one thread at a time executes.
#ifndef SKIM_CPU_QUEUE_H
#define SKIM_CPU_QUEUE_H

#include "runtime/backend.h"

skim_status skim_cpu_queue_create(skim_backend_queue *queue);
void skim_cpu_queue_destroy(skim_backend_queue *queue);
skim_status skim_cpu_queue_prepare(skim_backend_queue *queue, const skim_shape *shape);

skim_status skim_cpu_record_upload(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                   const void *data, uint64_t size);
skim_status skim_cpu_record_download(skim_backend_queue *queue, skim_buffer *buffer,
                                     uint64_t offset, void *data, uint64_t size);
skim_status skim_cpu_record_copy(skim_backend_queue *queue, skim_buffer *source,
                                 uint64_t source_offset, skim_buffer *destination,
                                 uint64_t destination_offset, uint64_t size);
skim_status skim_cpu_record_zero(skim_backend_queue *queue, skim_buffer *buffer, uint64_t offset,
                                 uint64_t size);
skim_status skim_cpu_record_mark(skim_backend_queue *queue, uint32_t index);
skim_status skim_cpu_record_append(skim_backend_queue *queue, const skim_append_args *args);
skim_status skim_cpu_record_estimate(skim_backend_queue *queue, const skim_estimate_args *args);
skim_status skim_cpu_record_select(skim_backend_queue *queue, const skim_select_args *args);
skim_status skim_cpu_record_attend(skim_backend_queue *queue, const skim_attend_args *args);

skim_status skim_cpu_queue_submit(skim_backend_queue *queue, bool will_wait, uint64_t *point);
skim_status skim_cpu_queue_wait(skim_backend_queue *queue, uint64_t point, uint64_t timeout_ns);
void skim_cpu_queue_discard(skim_backend_queue *queue);
skim_status skim_cpu_queue_mark_time(skim_backend_queue *queue, uint32_t index,
                                     uint64_t *nanoseconds);

#endif
