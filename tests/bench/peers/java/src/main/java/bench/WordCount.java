package bench;

import java.nio.file.Path;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** Counts words; a word's count leaves when the input has ended, by a timer at the end of time. */
final class WordCount extends KeyedProcessFunction<String, String, String> {
    private transient ValueState<Long> count;

    static void build(StreamExecutionEnvironment env, List<String> paths, Path output) {
        Reading.lines(env, paths).keyBy(word -> word).process(new WordCount()).sinkTo(new CsvSink.Lines(output));
    }

    @Override
    public void open(OpenContext context) {
        Main.isOpen();
        count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Long.class));
    }

    @Override
    public void processElement(String word, Context context, Collector<String> out) throws Exception {
        Long before = count.value();
        if (before == null) {
            context.timerService().registerEventTimeTimer(Long.MAX_VALUE);
            count.update(1L);
        } else {
            count.update(before + 1);
        }
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<String> out) throws Exception {
        out.collect(context.getCurrentKey() + "," + count.value());
    }
}
