package bench;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** Mean and count per sensor and event-time window of 5 s: one after the other, or one every second. */
final class Windows {
    /** A sum and a count; a POJO. */
    public static class Sum {
        public double total;
        public long count;
    }

    static void build(StreamExecutionEnvironment env, List<String> paths, Path output, boolean sliding) {
        WindowAssigner<Object, TimeWindow> windows = sliding
                ? SlidingEventTimeWindows.of(Duration.ofSeconds(5), Duration.ofSeconds(1))
                : TumblingEventTimeWindows.of(Duration.ofSeconds(5));
        Reading.stream(env, paths, true)
                .keyBy(reading -> reading.sensor)
                .window(windows)
                .aggregate(new Mean(), new Line())
                .sinkTo(new CsvSink.Lines(output));
    }

    static final class Mean implements AggregateFunction<Reading, Sum, Sum> {
        @Override
        public Sum createAccumulator() {
            return new Sum();
        }

        @Override
        public Sum add(Reading reading, Sum sum) {
            sum.total += reading.value;
            sum.count++;
            return sum;
        }

        @Override
        public Sum getResult(Sum sum) {
            return sum;
        }

        @Override
        public Sum merge(Sum a, Sum b) {
            a.total += b.total;
            a.count += b.count;
            return a;
        }
    }

    static final class Line extends ProcessWindowFunction<Sum, String, Integer, TimeWindow> {
        @Override
        public void open(OpenContext context) {
            Main.isOpen();
        }

        @Override
        public void process(Integer sensor, Context context, Iterable<Sum> sums, Collector<String> out) {
            Sum sum = sums.iterator().next();
            out.collect(sensor + "," + context.window().getStart() + "," + sum.total / sum.count + "," + sum.count);
        }
    }

    private Windows() {}
}
